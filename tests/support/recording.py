"""What became of objects, as a watcher saw it; and whether a ModelDeployment's status told the truth of it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self, TypeVar

from dev.cluster import external
from pilothouse.api.conditions import Command, Phase, RevisionState
from pilothouse.api.names import command_annotation
from pilothouse.api.status import ModelDeploymentStatus
from pilothouse.plan.weights import reached
from tests.support.kubectl import Json, Kubectl
from tests.support.waiting import until

T = TypeVar("T")
# From when until when something was so, in seconds since 1970.
Span = tuple[float, float, T]

# A pod that comes up is told in two or three, a step in five.
_WINDOW, _MOST_WRITES = 5.0, 30
_SKEW = 1.0  # seconds between two watchers' being told of the same moment
# Wherever a rollout is, it may come to one of these next.
_ENDS = (Phase.PROMOTING, Phase.SWITCHING, Phase.FAILED)
# Which phases may follow one in the same rollout; the pods that it begins with may be asked for anew in most.
_ORDER = {
    Phase.PROGRESSING: (Phase.VALIDATING, Phase.SHIFTING, Phase.AWAITING, *_ENDS),
    Phase.VALIDATING: (Phase.PROGRESSING, Phase.SHIFTING, Phase.AWAITING, *_ENDS),
    Phase.SHIFTING: (Phase.PROGRESSING, Phase.SHIFTING, *_ENDS),
    Phase.AWAITING: (Phase.PROGRESSING, *_ENDS),
    Phase.PROMOTING: (Phase.PROGRESSING, Phase.SWITCHING, Phase.FAILED),
    Phase.SWITCHING: (Phase.COMPLETE,),
    Phase.COMPLETE: (),
    Phase.FAILED: (Phase.RETRYING, Phase.PROGRESSING),
    Phase.RETRYING: (Phase.PROGRESSING,),
}
_SHARING = (Phase.SHIFTING, Phase.PROMOTING, Phase.SWITCHING)
_ANNOTATIONS = {"kubectl.kubernetes.io/last-applied-configuration", *map(command_annotation, Command)}


@dataclass(frozen=True)
class Sighting:
    """What an object was like at some moment, in seconds since 1970."""

    at: float
    event: str
    """ADDED, MODIFIED or DELETED."""
    body: Json

    @property
    def status(self) -> Json:
        return dict(self.body["status"])


class Watch:
    """Writes down every state of some objects for as long as the block runs."""

    def __init__(self, kubectl: Kubectl, kind: str, selection: str) -> None:
        """Prepare.

        Args:
            kubectl: where to look.
            kind: as kubectl calls it.
            selection: kubectl's flag that says which objects.
        """
        self.sightings: list[Sighting] = []
        how = ["--watch", "--output-watch-events", "--show-managed-fields", "--output=json"]
        argv = [external.kubectl(), "-n", kubectl.namespace, "get", kind, selection, *how]
        environment = {**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)}
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        for line in stream:
            event = json.loads(line)
            self.sightings.append(Sighting(time.time(), event["type"], event["object"]))
        stream.close()


class Recording:
    """Records the states of one ModelDeployment, and which pods its Service sends requests to meanwhile."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self._model = Watch(kubectl, "mdep", f"--field-selector=metadata.name={name}")
        self._endpoints = Watch(kubectl, "endpoints", f"--field-selector=metadata.name={name}")

    def __enter__(self) -> Self:
        self._model.__enter__()
        self._endpoints.__enter__()
        until(lambda: self._model.sightings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._model.__exit__()
        self._endpoints.__exit__()
        if error is not None:
            error.add_note(self.story())

    def story(self) -> str:
        """Return what happened, in short, a line for each change, to understand a failure by."""
        told = [(state.at, _shown(state.status)) for state in self.states]
        lines = sorted([*told, *((at, f"requests to {dict(mix)}") for at, mix in self.mixes)])
        return "\n".join(f"{at - lines[0][0]:6.1f} s  {line}" for at, line in lines)

    @property
    def states(self) -> list[Sighting]:
        """All states so far that the operator has written."""
        return [s for s in self._model.sightings if s.status["observedGeneration"] > 0]

    @property
    def mixes(self) -> list[tuple[float, Counter[str]]]:
        """How many ready pods of each revision the Service sent requests to, each time that this changed."""
        return [(s.at, _pods_behind(s)) for s in self._endpoints.sightings]

    def entered(self, phase: str, step: int | None = None, revision: str | None = None) -> list[Sighting]:
        """Return the states so far in a phase, and a step, of the rollout of a revision."""
        return [
            state
            for state in self.states
            if (rollout := state.status.get("rollout", {}))
            and rollout["phase"] == phase
            and step in (None, rollout.get("step"))
            and revision in (None, rollout["revision"])
        ]

    def check_told_the_truth(self, *, lag: float = 6.0) -> None:
        """Check what must be true of every status ever written, and of the order that they came in.

        Args:
            lag: seconds that may lie between what is so and what is told of it, on a small machine with much to do.

        Raises:
            AssertionError: one told something else.
        """
        assert self.states
        for seen in self._model.sightings:
            ModelDeploymentStatus.model_validate_json(json.dumps(seen.status))
            _the_rest_is_the_users(seen.body)
        for state in self.states:
            _conditions_agree(state.status)
            if not state.body["spec"].get("paused"):
                _failure_is_told(state.status)
        for before, after in pairwise(self.states):
            _goes_on(before.status, after.status)
        _writes_are_few([state.at for state in self.states])
        told = _spans([(state.at, state.status) for state in self.states])
        mixes = _spans(self.mixes)
        for begin, end, status in told:
            _weights_are(status, _during(mixes, begin - lag, end + lag))
        for begin, end, mix in mixes:
            for moment in (begin + _SKEW, end):
                _is_permitted(mix, _during(told, moment - lag, moment))


def _shown(status: Json) -> str:
    rollout = status.get("rollout", {})
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    names = ("revision", "phase", "step", "reached", "inForceSince", "weight", "weightReached", "analysis")
    parts = [f"{name} {rollout[name]}" for name in names if name in rollout]
    return f"{', '.join(parts)}: Ready {ready['status']} {ready['reason']} ({ready['message']})"


def _pods_behind(endpoints: Sighting) -> Counter[str]:
    """Return how many pods of each revision get requests by a Service's Endpoints."""
    subsets = endpoints.body.get("subsets") or () if endpoints.event != "DELETED" else ()
    pods = [address["targetRef"]["name"] for subset in subsets for address in subset.get("addresses", ())]
    # A pod is called by its Deployment, the hash of its template, and something of its own.
    return Counter(pod.rsplit("-", 2)[0] for pod in pods)


def _spans(moments: Sequence[tuple[float, T]]) -> list[Span[T]]:
    """Return from when until when each thing was so; the last still is."""
    ends = [at for at, _ in moments[1:]] + [time.time()]
    return [(at, end, thing) for (at, thing), end in zip(moments, ends, strict=True)]


def _during(spans: Iterable[Span[T]], begin: float, end: float) -> list[T]:
    """Return what was so at some moment between two."""
    return [thing for first, last, thing in spans if first <= end and last >= begin]


def _the_rest_is_the_users(body: Json) -> None:
    """The operator wrote nothing but the status: no spec, no finalizer, no annotation."""
    meta = body["metadata"]
    assert "finalizers" not in meta
    assert set(meta.get("annotations", {})) <= _ANNOTATIONS
    for entry in meta["managedFields"]:
        assert not entry["manager"].startswith("pilothouse") or set(entry["fieldsV1"]) == {"f:status"}, entry


def _conditions_agree(status: Json) -> None:
    """All speak of the same generation, one of Ready, Reconciling and Stalled is true, and Ready is no lie."""
    conditions = {c["type"]: c for c in status["conditions"]}
    assert all(c["observedGeneration"] == status["observedGeneration"] for c in conditions.values())
    true = {kind for kind, c in conditions.items() if c["status"] == "True"} - {"Available"}
    assert len(true) == 1, f"true at once: {sorted(true)}"
    if "Ready" in true:
        assert status["stableRevision"] == status["targetRevision"]
        assert status["rollout"]["phase"] == Phase.COMPLETE
        assert conditions["Available"]["status"] == "True"
        assert set(_weights(status)) <= {status["stableRevision"]}, "all requests go there"


def _failure_is_told(status: Json) -> None:
    """A rollout that failed is Stalled, and says why in each place where people look."""
    rollout = status.get("rollout", {})
    if rollout.get("phase") != Phase.FAILED:
        return
    stalled = next(c for c in status["conditions"] if c["type"] == "Stalled")
    entry = next(e for e in status["revisions"] if e["name"] == rollout["revision"])
    ended = status["history"][0]
    assert entry["state"] == RevisionState.FAILED
    assert ended["revision"] == rollout["revision"]
    assert stalled["reason"] == rollout["reason"] == entry["reason"] == ended["reason"] != ""
    assert rollout["message"] == entry["message"] == ended["message"] != ""
    assert rollout["message"] in stalled["message"]


def _goes_on(before: Json, after: Json) -> None:
    """One status may follow another: the generation never falls, and one transition at most lies between them."""
    assert after["observedGeneration"] >= before["observedGeneration"], "observedGeneration went back"
    grown = after["history"][1:]
    same = after["history"] == before["history"] or grown == before["history"][: len(grown)]
    assert same, "what ended was told differently before"
    old, new = before.get("rollout"), after["rollout"]
    ways = f"from {old} to {new}"
    if old is None or (old["revision"], old["startedAt"]) != (new["revision"], new["startedAt"]):
        assert new["phase"] in (Phase.PROGRESSING, Phase.RETRYING, Phase.COMPLETE), ways
        assert old is None or old["phase"] != Phase.SWITCHING, ways
    elif old["phase"] != new["phase"]:
        assert new["phase"] in _ORDER[Phase(old["phase"])], ways
        assert new["phase"] != Phase.SHIFTING or new.get("step", 1) == 1, ways
    elif new["phase"] == Phase.SHIFTING:
        assert new.get("step", 0) - old.get("step", 0) in (0, 1), ways
    if before.get("stableRevision") not in (None, after.get("stableRevision")):
        assert (new["phase"], new["revision"]) == (Phase.SWITCHING, after.get("stableRevision")), ways


def _writes_are_few(moments: list[float]) -> None:
    """The status does not change with every request: each write is an event, which leads to the next look."""
    for at in moments:
        written = sum(at <= other < at + _WINDOW for other in moments)
        assert written <= _MOST_WRITES, f"{written} writes of the status within {_WINDOW:.0f} s"


def _weights(status: Json) -> dict[str, int]:
    return {entry["name"]: entry["weight"] for entry in status["revisions"] if entry.get("weight")}


def _weights_are(status: Json, mixes: list[Counter[str]]) -> None:
    """The weights told are what the pods behind the Service came to at about that time."""
    weights = _weights(status)
    shares = [{name: reached(n, mix.total() - n) for name, n in mix.items()} for mix in mixes] or [{}]
    assert weights in shares, f"told: {weights}, seen: {shares}"
    rollout = status.get("rollout", {})
    assert rollout.get("weightReached", 0) == weights.get(rollout.get("revision", ""), 0)


def _is_permitted(mix: Counter[str], told: list[Json]) -> None:
    """Some status of that time says that those revisions may get requests."""
    permitted = []
    for status in told:
        rollout, names = (
            status.get("rollout", {}),
            {status.get("stableRevision", status.get("targetRevision"))},
        )
        if rollout.get("phase") in _SHARING:
            names.add(rollout["revision"])
        permitted.append(names)
    assert any(set(mix) <= names for names in permitted), f"requests to {dict(mix)}, told: {permitted}"
