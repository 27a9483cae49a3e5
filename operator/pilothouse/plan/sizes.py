"""How many pods each revision should have, and which pods of the stable one stand by during a mix."""

from __future__ import annotations

from pilothouse.api import names
from pilothouse.api.conditions import Phase, RevisionState
from pilothouse.api.rollout import OnFailure, Strategy
from pilothouse.plan import routing
from pilothouse.plan.facts import Facts, limited_surge, needed, pods_of
from pilothouse.plan.seen import Json, is_ready
from pilothouse.plan.state import Entry, State
from pilothouse.plan.weights import split


def size(facts: Facts, state: State, entry: Entry) -> int:
    """Return how many pods the revision of `entry` should have."""
    match entry.state:
        case RevisionState.STABLE:
            return _stable(facts, state, entry)
        case RevisionState.CANDIDATE:
            return _candidate(facts, state, entry)
        case RevisionState.FAILED:
            return _failed(facts, state, entry)
        case RevisionState.DRAINING:
            return _live(facts, entry)
        case RevisionState.RETIRED:
            return 0


def _stable(facts: Facts, state: State, entry: Entry) -> int:
    """The stable revision keeps all its pods until it is replaced; only where there is no room it makes some."""
    rollout, surge, replicas = state.rollout, limited_surge(facts.spec), facts.replicas
    if rollout is None or surge is None:
        return replicas
    if rollout.phase in (Phase.SWITCHING, Phase.COMPLETE):
        # Pods of the revision that it replaced take up room until they have ended.
        others = sum(facts.present(e.name) for e in state.entries if e.name != entry.name)
        return min(replicas, max(replicas + surge - others, _live(facts, entry)))
    if state.candidate in (None, state.stable):
        return replicas
    spare = 1 if surge == 0 else 0
    if facts.returning(state):
        return min(
            replicas, max(replicas + surge - facts.present(state.candidate), facts.ready(state.stable))
        )
    if not routing.by_pods(rollout) or not rollout.reached:
        return replicas - spare
    return min(max(replicas - spare - facts.behind(state.candidate), 0), replicas - spare)


def _candidate(facts: Facts, state: State, entry: Entry) -> int:
    rollout, surge = state.rollout, limited_surge(facts.spec)
    if rollout is None:
        return facts.replicas
    if facts.returning(state):
        spare = 1 if surge == 0 else 0
        return min(_live(facts, entry), max(facts.replicas - spare - facts.behind(state.stable), 0))
    if routing.replanned(rollout, facts.spec):
        return min(_live(facts, entry), facts.replicas)
    wanted = needed(rollout, state, facts.spec)
    if surge is None or state.stable is None:
        return wanted
    if rollout.paused_at is not None:
        return min(wanted, _live(facts, entry))
    # Old pods that are only just ending still take up room. Want of room takes away no pod that serves.
    room = facts.replicas + surge - facts.present(state.stable)
    return min(wanted, max(room, facts.ready(entry.name)))


def _failed(facts: Facts, state: State, entry: Entry) -> int:
    """What it has for as long as its logs are of use, then nothing.

    But a first revision, with nothing else serving, keeps trying; and where there is no room to spare, the stable
    revision needs it at once.
    """
    if state.stable is None:
        return facts.replicas
    if limited_surge(facts.spec) is not None:
        return 0
    if facts.spec.rollout.on_failure is OnFailure.PAUSE:
        return _live(facts, entry)
    return 0 if facts.drained(entry.name, entry.since, in_the_way=False) else _live(facts, entry)


def _live(facts: Facts, entry: Entry) -> int:
    live = facts.seen.deployment(entry.name)
    return int(live["spec"].get("replicas", facts.replicas)) if live else 0


def standing_by(facts: Facts, state: State) -> frozenset[str]:
    """Return the uids of the stable revision's pods that are to be kept out of a mix.

    That is so for weights beyond half. Pods that get requests already keep them, and unready ones go first. Where none
    has to, none does, though there be too many for a moment: which of them a scale-down takes is not ours to choose.
    """
    rollout, spec = state.rollout, facts.spec
    if rollout is None or spec.rollout.strategy is not Strategy.CANARY or len(routing.route(state, spec)) < 2:
        return frozenset()
    keep = split(routing.weight_in_force(rollout, spec), facts.replicas).stable
    if keep >= facts.replicas:
        return frozenset()
    pods = sorted(pods_of(facts.seen, state.stable), key=_claim)
    return frozenset(pod["metadata"]["uid"] for pod in pods[max(keep, 1) :])


def aside(facts: Facts, state: State) -> bool:
    """Whether the pods that are to be kept out of a mix are seen to be out of it."""
    wanted = standing_by(facts, state)
    pods = [pod for pod in pods_of(facts.seen, state.stable) if pod["metadata"]["uid"] in wanted]
    return not any(_in_mix(pod) for pod in pods)


def _in_mix(pod: Json) -> bool:
    return bool(pod["metadata"].get("labels", {}).get(names.LABEL_SERVING) == names.SERVING)


def _claim(pod: Json) -> tuple[bool, bool, str]:
    return (not is_ready(pod), not _in_mix(pod), pod["metadata"]["name"])
