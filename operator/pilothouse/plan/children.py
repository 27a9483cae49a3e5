"""The children that a state wants to exist, and what must be done to get there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pilothouse.api import names
from pilothouse.api.conditions import Phase, RevisionState
from pilothouse.api.revision import revision_hash
from pilothouse.api.rollout import Strategy
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan import routing, validation
from pilothouse.plan.actions import Action, Apply, Delete, Label
from pilothouse.plan.companions import autoscaler, budget
from pilothouse.plan.compare import covers
from pilothouse.plan.facts import Facts, pods_of
from pilothouse.plan.revisions import Record, child_metadata, manifest, recorded
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.sizes import size, standing_by
from pilothouse.plan.state import Entry, State
from pilothouse.plan.template import Defaults, pod_template
from pilothouse_runtime.contract import GRPC_PORT, GRPC_PORT_NAME, HTTP_PORT_NAME

SERVICE_PORT = 80
# Targets by name: pods of a revision that an older operator rendered have no port of the second name, and get none of
# its requests.
_PORTS: tuple[Json, ...] = (
    {"name": HTTP_PORT_NAME, "port": SERVICE_PORT, "targetPort": HTTP_PORT_NAME, "protocol": "TCP"},
    {
        "name": GRPC_PORT_NAME,
        "port": GRPC_PORT,
        "targetPort": GRPC_PORT_NAME,
        "protocol": "TCP",
        # Kubernetes, "Service", on application protocols: HTTP/2 over cleartext, as gRPC without TLS is.
        "appProtocol": "kubernetes.io/h2c",
    },
)


@dataclass(frozen=True)
class Wanted:
    """What should exist.

    Attributes:
        manifests: in the order to write them in.
        kept: (kind, name) of all that may stay.
        standing_by: uids of pods that are to be kept out of a mix.
    """

    manifests: tuple[Json, ...]
    kept: frozenset[tuple[str, str]]
    standing_by: frozenset[str]


def target_name(seen: Seen, spec: ModelDeploymentSpec) -> str:
    """Return the name of the revision that `spec` asks for."""
    return names.revision_name(seen.key.name, revision_hash(spec))


def want(facts: Facts, state: State, defaults: Defaults) -> Wanted:
    """Return the children that `state` asks for.

    A revision whose record somebody deleted, and which `spec` no longer describes, is left as it is: there is
    nothing to make its pods from, and those that run may be serving.
    """
    seen, spec = facts.seen, facts.spec
    # The model's own Service comes first: requests leave a revision before its pods do.
    manifests: list[Json] = list(_shared(facts, state, defaults))
    kept = {(m["kind"], m["metadata"]["name"]) for m in manifests} | _validations(state)
    for entry in state.entries:
        kinds = ["ControllerRevision"]
        if entry.state is not RevisionState.RETIRED:
            kinds += ["Service", "Deployment"]
        kept |= {(kind, entry.name) for kind in kinds}
        record = _record(seen, spec, entry, defaults)
        if record is None:
            continue
        made = [
            manifest(seen.body, record),
            _service(seen.body, entry.name, (entry.name,), entry.name),
            _deployment(seen, record, size(facts, state, entry)),
        ]
        manifests += [m for m in made if m["kind"] in kinds]
    return Wanted(tuple(manifests), frozenset(kept), standing_by(facts, state))


def _shared(facts: Facts, state: State, defaults: Defaults) -> Iterator[Json]:
    """Yield what belongs to no single revision."""
    body, spec, name = facts.seen.body, facts.spec, facts.seen.key.name
    if state.serving is None:
        return
    yield _service(body, name, routing.route(state, spec))
    if spec.rollout.strategy is Strategy.BLUE_GREEN:
        yield _service(body, name + names.PREVIEW_SUFFIX, (state.candidate or state.serving,))
    yield budget(body, state.serving, defaults)
    scaler = autoscaler(body, spec, defaults)
    if scaler is not None:
        yield scaler
    validated = validation.wanted(state, spec)
    if validated is not None and facts.seen.job(validated) is None and not facts.idle(state):
        job = validation.job(facts.seen, spec, state, validated, defaults)
        if job is not None:
            yield job


def _validations(state: State) -> set[tuple[str, str]]:
    """A validation's Job is never written twice (its template cannot change); it stays while its log may help."""
    rollout = state.rollout
    past = (Phase.PROGRESSING, Phase.RETRYING, Phase.COMPLETE)
    return set() if rollout is None or rollout.phase in past else {("Job", rollout.revision)}


def actions(seen: Seen, wanted: Wanted) -> Iterator[Action]:
    """Yield what turns what was seen into what is wanted; nothing where they agree."""
    live = {
        "ControllerRevision": seen.revision,
        "Deployment": seen.deployment,
        "Service": seen.service,
        "Job": seen.job,
        "PodDisruptionBudget": seen.budget,
        "HorizontalPodAutoscaler": seen.autoscaler,
    }
    for wish in wanted.manifests:
        found = live[wish["kind"]](wish["metadata"]["name"])
        if found is None:
            yield Apply(wish, new=True)
        elif not covers(found, wish):
            yield Apply(wish, new=False)
    yield from _labels(seen, wanted)
    for kind, children in (
        ("Deployment", seen.deployments),
        ("Service", seen.services),
        ("Job", seen.jobs),
        ("HorizontalPodAutoscaler", seen.autoscalers),
        ("PodDisruptionBudget", seen.budgets),
        ("ControllerRevision", seen.revisions),
    ):
        for child in children:
            meta = child["metadata"]
            unwanted = (kind, meta["name"]) not in wanted.kept
            if unwanted and seen.owned(child) and "deletionTimestamp" not in meta:
                yield Delete(child["apiVersion"], kind, meta["namespace"], meta["name"], meta["uid"])


def _labels(seen: Seen, wanted: Wanted) -> Iterator[Label]:
    """Yield what puts pods into the mix or takes them out of it; a pod is born into it, by its template."""
    for deployment in seen.deployments:
        for pod in pods_of(seen, deployment["metadata"]["name"]):
            meta = pod["metadata"]
            value = names.NOT_SERVING if meta["uid"] in wanted.standing_by else names.SERVING
            if meta["labels"].get(names.LABEL_SERVING) != value:
                yield Label(meta["namespace"], meta["name"], meta["uid"], names.LABEL_SERVING, value)


def _record(seen: Seen, spec: ModelDeploymentSpec, entry: Entry, defaults: Defaults) -> Record | None:
    """Return the revision's record with its present number; made now where this spec is the revision's."""
    old = recorded(seen, entry.name)
    if old is not None:
        return Record(entry.name, entry.number, old.model, old.template)
    if entry.name != target_name(seen, spec):
        return None
    model = spec.model.model_dump(by_alias=True, mode="json", exclude_defaults=True)
    return Record(entry.name, entry.number, model, pod_template(seen.key.name, entry.name, spec, defaults))


def _deployment(seen: Seen, record: Record, count: int) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(seen.body, record.name, record.name),
        "spec": {
            "replicas": count,
            # The template never changes, so the Deployment never has more than one ReplicaSet to remember.
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": names.pod_selector(seen.key.name, record.name)},
            "template": record.template,
        },
    }


def _service(owner: Json, name: str, to: routing.Route, revision: str | None = None) -> Json:
    """Return the Service `name` that sends requests by a route; `revision` is the one whose own Service it is."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(owner, name, revision),
        "spec": {
            "selector": routing.selector(owner["metadata"]["name"], to),
            "ports": [dict(port) for port in _PORTS],
        },
    }
