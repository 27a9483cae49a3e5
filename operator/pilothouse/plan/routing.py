"""Which revisions the model's Service sends requests to, decided from the written state alone.

The Service's selector is the one switch there is: a single write moves all requests, and nothing has to be undone for
the way back. It names one revision; or, while two share the requests, the label that pods of every revision carry.
"""

from __future__ import annotations

import hashlib
import json

from pilothouse.api import names
from pilothouse.api.conditions import Phase
from pilothouse.api.rollout import Against, Validation
from pilothouse.api.rollout import Rollout as RolloutSpec
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.state import Rollout, State

# The revisions that get requests: none, one, or the stable one and then the candidate.
Route = tuple[str, ...]

_NOBODY = "none"  # no revision is called so: they all have a hash


def route(state: State, spec: ModelDeploymentSpec) -> Route:
    """Return the revisions that `state` sends requests to."""
    rollout, candidate = state.rollout, state.candidate
    if state.stable is None:
        return _first(state, spec)
    if rollout is None or candidate is None or candidate == state.stable:
        return (state.stable,)
    weight = weight_in_force(rollout, spec)
    if weight <= 0:
        return (state.stable,)
    return (state.stable, candidate) if weight < 100 else (candidate,)


def _first(state: State, spec: ModelDeploymentSpec) -> Route:
    """A first revision gets requests from its first ready pod on, unless it has to be validated first."""
    rollout = state.rollout
    if state.target is None or rollout is None:
        return ()
    passed = rollout.skip or (rollout.validation is not None and rollout.validation.passed)
    return (state.target,) if passed or gate(state, spec) is None else ()


def gate(state: State, spec: ModelDeploymentSpec) -> Validation | None:
    """Return the validation that a candidate has to pass, or None: with no stable revision, none can be compared."""
    validation = spec.rollout.validation
    if validation is not None and validation.against is Against.STABLE and state.stable is None:
        return None
    return validation


def weight_in_force(rollout: Rollout, spec: ModelDeploymentSpec) -> int:
    """Return the weight that requests are spread by: that of the step, or until its pods are there, the one before.

    Where the steps were changed under way they are about to begin anew, without requests to the candidate.
    """
    if by_pods(rollout):
        # How many there are of each is the weight.
        return 50 if rollout.reached else 0
    if rollout.phase not in (Phase.SHIFTING, Phase.PROMOTING) or rollout.step is None:
        return 0
    if replanned(rollout, spec):
        return 0
    return step_weight(spec.rollout, rollout.step if rollout.reached else rollout.step - 1)


def replanned(rollout: Rollout, spec: ModelDeploymentSpec) -> bool:
    """Whether a canary is in a step of steps that the spec no longer asks for."""
    in_steps = rollout.phase in (Phase.SHIFTING, Phase.PROMOTING) and rollout.step is not None
    return in_steps and rollout.plan != plan_of(spec)


def by_pods(rollout: Rollout) -> bool:
    """Whether pods of the candidate take the places of stable ones one by one, as where there is little surge."""
    return rollout.phase is Phase.SHIFTING and rollout.step is None


def plan_of(spec: ModelDeploymentSpec) -> str:
    """Return a fingerprint of the way that a rollout takes, to notice where it is changed under way."""
    rollout = spec.rollout
    way = [
        str(rollout.strategy),
        rollout.surge,
        [step.model_dump(mode="json", by_alias=True) for step in rollout.steps],
    ]
    return hashlib.sha256(json.dumps(way, sort_keys=True).encode()).hexdigest()[:8]


def step_weight(spec: RolloutSpec, step: int) -> int:
    """Return the weight of a step: its own, else that of the last step before it that has one, else 0."""
    given = [s.weight for s in spec.steps[: max(step + 1, 0)] if s.weight is not None]
    return given[-1] if given else 0


def selector(model: str, to: Route) -> dict[str, str]:
    """Return the Service's selector for a route."""
    match to:
        case ():
            return names.pod_selector(model, _NOBODY)
        case (only,):
            return names.pod_selector(model, only)
        case _:
            return names.mixed_selector(model)


def in_force(seen: Seen, to: Route) -> bool:
    """Whether the model's own Service is seen to send requests so."""
    service = seen.service(seen.key.name)
    return service is not None and service["spec"].get("selector") == selector(seen.key.name, to)


def mixed(seen: Seen) -> bool:
    """Whether the model's own Service is seen to send requests to all pods that carry the serving label."""
    service = seen.service(seen.key.name)
    return service is not None and service["spec"].get("selector") == names.mixed_selector(seen.key.name)


def serves(pod: Json, to: Route) -> bool:
    """Whether a pod, if it is ready, gets requests by a route."""
    labels = pod["metadata"].get("labels", {})
    if labels.get(names.LABEL_REVISION) not in to:
        return False
    return len(to) == 1 or labels.get(names.LABEL_SERVING) == names.SERVING
