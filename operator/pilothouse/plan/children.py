"""The children that a state wants to exist, and what must be done to get there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pilothouse.api import names
from pilothouse.api.conditions import RevisionState
from pilothouse.api.durations import seconds
from pilothouse.api.revision import revision_hash
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan.actions import Action, Apply, Delete
from pilothouse.plan.clock import after
from pilothouse.plan.compare import covers
from pilothouse.plan.revisions import Record, child_metadata, manifest, recorded
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.state import Entry, State
from pilothouse.plan.template import Defaults, pod_template
from pilothouse_runtime.contract import HTTP_PORT_NAME

SERVICE_PORT = 80


@dataclass(frozen=True)
class Wanted:
    """What should exist: manifests in the order to write them in, and (kind, name) of all that may stay."""

    manifests: tuple[Json, ...]
    kept: frozenset[tuple[str, str]]


def target_name(seen: Seen, spec: ModelDeploymentSpec) -> str:
    """Return the name of the revision that `spec` asks for."""
    return names.revision_name(seen.key.name, revision_hash(spec))


def want(seen: Seen, spec: ModelDeploymentSpec, state: State, defaults: Defaults, now: datetime) -> Wanted:
    """Return the children that `state` asks for.

    A revision whose record somebody deleted, and which `spec` no longer describes, is left as it is: there is
    nothing to make its pods from, and those that run may be serving.
    """
    manifests: list[Json] = []
    kept: set[tuple[str, str]] = set()
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
            _service(seen.body, entry.name, entry.name),
            _deployment(seen, record, replicas(seen, spec, state, entry, now)),
        ]
        manifests += [m for m in made if m["kind"] in kinds]
    if state.serving is not None:
        manifests.append(_service(seen.body, seen.key.name, state.serving))
        kept.add(("Service", seen.key.name))
    return Wanted(tuple(manifests), frozenset(kept))


def replicas(seen: Seen, spec: ModelDeploymentSpec, state: State, entry: Entry, now: datetime) -> int:
    """Return how many pods the revision of `entry` should have.

    Candidate and stable: what the spec asks for. Draining: what it has. Failed: what it has for as long as
    its logs are of use (`scaleDownDelay`), then none; but a first revision, with nothing else serving, keeps
    trying.
    """
    if entry.state in (RevisionState.CANDIDATE, RevisionState.STABLE):
        return spec.replicas
    if entry.state is RevisionState.FAILED:
        if state.stable is None:
            return spec.replicas
        if now >= after(entry.since, seconds(spec.rollout.scale_down_delay)):
            return 0
    live = seen.deployment(entry.name)
    return int(live["spec"].get("replicas", spec.replicas)) if live else 0


def actions(seen: Seen, wanted: Wanted) -> Iterator[Action]:
    """Yield what turns what was seen into what is wanted; nothing where they agree."""
    live = {
        "ControllerRevision": seen.revision,
        "Deployment": seen.deployment,
        "Service": seen.service,
    }
    for wish in wanted.manifests:
        found = live[wish["kind"]](wish["metadata"]["name"])
        if found is None:
            yield Apply(wish, new=True)
        elif not covers(found, wish):
            yield Apply(wish, new=False)
    for kind, api_version, children in (
        ("Deployment", "apps/v1", seen.deployments),
        ("Service", "v1", seen.services),
        ("ControllerRevision", "apps/v1", seen.revisions),
    ):
        for child in children:
            meta = child["metadata"]
            unwanted = (kind, meta["name"]) not in wanted.kept
            if unwanted and seen.owned(child) and "deletionTimestamp" not in meta:
                yield Delete(api_version, kind, meta["namespace"], meta["name"], meta["uid"])


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


def _service(owner: Json, name: str, revision: str) -> Json:
    """Return the Service `name` that sends requests to the pods of `revision`."""
    model = owner["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(owner, name, revision if name == revision else None),
        "spec": {
            "selector": names.pod_selector(model, revision),
            "ports": [
                {
                    "name": HTTP_PORT_NAME,
                    "port": SERVICE_PORT,
                    "targetPort": HTTP_PORT_NAME,
                    "protocol": "TCP",
                }
            ],
        },
    }


def switched(seen: Seen, revision: str | None) -> bool:
    """Whether the model's own Service is seen to send requests to `revision`."""
    service = seen.service(seen.key.name)
    return (
        service is not None
        and revision is not None
        and service["spec"].get("selector") == names.pod_selector(seen.key.name, revision)
    )
