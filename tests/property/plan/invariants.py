"""What must hold at each pass of the operator, each thing as a function of its own: its name is what went wrong.

Each compares the world before a pass with the world after it. `through` says that the pass got through: no call failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from pilothouse.api.conditions import Phase, RevisionState, Verdict
from pilothouse.api.names import LABEL_PREFIX
from pilothouse.api.rollout import OnInconclusive
from pilothouse.api.status import ModelDeploymentStatus
from tests.property.plan.look import Known, Look

_EXPOSED = (Phase.SHIFTING, Phase.AWAITING, Phase.PROMOTING, Phase.SWITCHING, Phase.COMPLETE)
_ORDER = (
    Phase.PROGRESSING,
    Phase.VALIDATING,
    Phase.SHIFTING,
    Phase.AWAITING,
    Phase.PROMOTING,
    Phase.SWITCHING,
)


@dataclass(frozen=True)
class Pass:
    """One pass of the operator."""

    before: Look
    after: Look
    through: bool
    known: Known


def most_pods(weight: int, replicas: int) -> int:
    """Return how many pods a canary's weight may at most take: the whole number nearest to its share, at least one."""
    if weight >= 50:
        return replicas
    return min(max(floor(Fraction(replicas * weight, 100 - weight) + Fraction(1, 2)), 1), replicas)


def permitted(look: Look) -> set[str]:
    """Return the revisions that may get requests by what the status of `look` says."""
    rollout, stable = look.rollout, look.stable
    if stable is None:
        target = look.status.get("targetRevision")
        passed = rollout.get("skipSteps") or (rollout.get("validation") or {}).get("passed")
        return {target} if target and (passed or look.spec.rollout.validation is None) else set()
    by_pods = rollout.get("step") is None
    # Until the pods of a step with weight 0 are there, the weight of the step before may still be in force.
    lasts = not rollout.get("reached") and rollout.get("revision") in look.mix
    shares = rollout.get("weight", 0) > 0 or by_pods or lasts
    shared = (Phase.SHIFTING,) if by_pods else (Phase.SHIFTING, Phase.PROMOTING)
    return {stable, rollout["revision"]} if rollout.get("phase") in shared and shares else {stable}


def ready_pods_behind_the_traffic_never_fall_by_the_operators_hand(p: Pass) -> None:
    """What may serve and did keeps serving, down to what is asked for (one less where there is no surge).

    A promotion counts when it is decided: what the new revision loses between that and the next pass, which moves the
    requests, is not the operator's doing.
    """
    if p.before.stable is None:
        return
    floor = p.before.replicas - (1 if p.before.surge == 0 else 0)
    switching = p.before.rollout.get("phase") == Phase.SWITCHING
    drains = {name for name in p.before.mix if p.before.state(name) == RevisionState.DRAINING}
    countable = permitted(p.before) | (drains if switching else set())
    if (
        p.before.generation != p.before.status["observedGeneration"]
        and p.before.rollout.get("step") is not None
    ):
        countable.discard(p.before.rollout["revision"])  # the spec has changed: no rollout is what it was
    served = sum(count for name, count in p.before.lasting.items() if name in countable)
    if p.after.stable is not None and p.after.stable != p.before.stable:
        new = p.before.known[p.after.stable]
        assert new >= min(served, floor), f"promoted with {new} pods that nodes know, where {served} served"
    if switching:
        served = min(served, p.before.staying[p.before.stable])
    assert p.after.lasting.total() >= min(served, floor), (
        f"{dict(p.before.lasting)} before, {dict(p.after.lasting)} after, {floor} must stay"
    )


def no_request_reaches_a_revision_before_its_time(p: Pass) -> None:
    """Nothing is opened to requests but what the written status says: no candidate before its step, nothing failed."""
    opened = set(p.after.mix) - set(p.before.mix) - _taken_up_again(p)
    assert opened <= permitted(p.before), (
        f"opened: {sorted(opened)}, permitted: {sorted(permitted(p.before))}"
    )


def _taken_up_again(p: Pass) -> set[str]:
    """Return the candidate of a step that the spec had turned away from and now asks for as before, or nothing."""
    before, after = p.before.rollout, p.after.rollout
    same = all(before.get(field) == after.get(field) for field in ("revision", "phase", "plan", "step"))
    again = same and bool(before.get("reached")) and "weight" not in before and after.get("weight", 0) > 0
    return {after["revision"]} if again else set()


def no_request_reaches_a_revision_after_its_time(p: Pass) -> None:
    """A pass that gets through leaves no requests with what failed, was replaced or was dropped."""
    if p.through and p.before.status.get("targetRevision"):
        open_ = set(p.after.mix) - _taken_up_again(p)
        assert open_ <= permitted(p.before), (
            f"open: {sorted(open_)}, permitted: {sorted(permitted(p.before))}"
        )


def what_had_requests_has_time_to_end_its_connections(p: Pass) -> None:
    """A revision's pods are not taken away before 30 s have gone by without requests, where there is room for them."""
    if p.before.stable is None or p.before.surge is not None:
        return
    if p.before.rollout.get("phase") == Phase.RETRYING:
        return  # somebody cannot wait
    for revision in p.before.asked.keys() - p.after.asked.keys():
        quiet = p.known.quiet_for(revision, p.after.time)
        assert quiet >= 30 or not p.before.ready[revision], f"{revision} had requests {quiet:g} s ago"


def no_pod_is_taken_away_while_nodes_send_requests_there(p: Pass) -> None:
    """A revision keeps its pods until nodes are told of others in their place, where there is room for both."""
    if p.before.stable is None or p.before.surge is not None or p.before.replicas == 0:
        return
    if p.before.rollout.get("phase") == Phase.RETRYING:
        return  # somebody cannot wait
    emptied = {name for name, asked in p.before.asked.items() if asked and not p.after.asked.get(name)}
    told = {name: p.before.told[name] for name in emptied if p.before.told[name]}
    assert not told, f"nodes are still told of {told}"


def nothing_gets_requests_before_it_is_validated(p: Pass) -> None:
    """A validation that is asked for has passed, unless the revision served before or was promoted in full by hand."""
    before, after = p.before.rollout, p.after.rollout
    entered = after.get("phase") in _EXPOSED and (
        before.get("phase") not in _EXPOSED or before.get("revision") != after["revision"]
    )
    validation = p.before.spec.rollout.validation
    if not entered or validation is None or after["revision"] in (p.before.stable, *p.known.served):
        return
    revision = after["revision"]
    passed = any(value >= (validation.min or 0) for value in p.known.reports.get(revision, ()))
    assert passed or p.known.by_hand(revision, "full"), f"{revision} enters {after['phase']}"


def a_validation_passes_only_by_a_good_report(p: Pass) -> None:
    """The status says that a validation passed only where its Job said so."""
    validation = p.after.rollout.get("validation") or {}
    asked = p.after.spec.rollout.validation
    if validation.get("passed") and not (p.before.rollout.get("validation") or {}).get("passed") and asked:
        values = p.known.reports.get(p.after.rollout["revision"], [])
        assert any(value >= (asked.min or 0) for value in values), f"reported: {values}"


def a_reached_weight_keeps_pods_on_both_sides(p: Pass) -> None:
    """Of a weight between 1 and 99 that was reached, each side that has ready pods gets requests."""
    rollout = p.before.rollout
    if not (p.through and rollout.get("reached")):
        return
    if not (_in_one_step(p) and 1 <= rollout.get("weight", 0) <= 99):
        return
    for revision in (p.before.stable, rollout["revision"]):
        if p.after.ready[revision or ""]:
            assert p.after.mix[revision or ""], f"no pod of {revision} gets requests: {dict(p.after.mix)}"


def _in_one_step(p: Pass) -> bool:
    """Whether one canary is in a step before and after the pass, and the spec is still the one that it follows."""
    before, after = p.before.rollout, p.after.rollout
    same = all(before.get(field) == after.get(field) for field in ("revision", "phase", "plan", "step"))
    told = p.before.status.get("observedGeneration") == p.before.generation
    return same and told and before.get("phase") == Phase.SHIFTING and before.get("step") is not None


def the_candidate_has_no_more_pods_than_its_step_asks_for(p: Pass) -> None:
    """In a canary's step the new revision never asks for more pods than the step's weight comes to."""
    rollout = p.before.rollout
    if p.through and _in_one_step(p) and p.before.spec.rollout.steps:
        most = most_pods(rollout.get("weight", 0), p.before.replicas)
        asked = p.after.asked.get(rollout["revision"], 0)
        assert asked <= most, f"{asked} pods asked for, {most} at most"


def the_stable_revision_keeps_its_size(p: Pass) -> None:
    """Beside a canary or a blue/green rollout, the stable revision has all pods that are asked for."""
    stable = p.before.stable
    if stable is None or p.before.surge is not None or stable not in p.after.asked:
        return
    least = p.before.replicas if p.through else min(p.before.replicas, p.before.asked.get(stable, 0))
    assert p.after.asked[stable] >= least, f"{p.after.asked} asked for, {least} at least of {stable}"


def there_is_at_most_one_candidate_and_one_stable_revision(p: Pass) -> None:
    """At most one revision is tried, and at most one is stable."""
    states = [entry["state"] for entry in p.after.status.get("revisions", ())]
    assert states.count(RevisionState.CANDIDATE) <= 1, states
    assert states.count(RevisionState.STABLE) <= 1, states


def observed_generation_never_goes_back(p: Pass) -> None:
    """The status speaks of the same spec or of a later one."""
    assert p.after.status["observedGeneration"] >= p.before.status.get("observedGeneration", 0)


def waiters_are_told_the_truth(p: Pass) -> None:
    """Ready and Available are there; exactly one of Ready, Reconciling and Stalled is true; Ready is no lie."""
    if not p.through:
        return  # nobody has written anything
    conditions = {c["type"]: c["status"] for c in p.after.status["conditions"]}
    assert {"Ready", "Available"} <= conditions.keys(), "kstatus takes an object without Ready for done"
    true = {kind for kind, status in conditions.items() if status == "True"} - {"Available"}
    assert len(true) == 1, f"true at once: {sorted(true)}"
    if "Ready" in true and p.after.status["observedGeneration"] == p.after.generation:
        assert set(p.after.mix) <= {p.after.target}, f"Ready, but requests go to {dict(p.after.mix)}"
        assert p.after.mix.total() >= min(p.before.ready[p.after.target], p.after.replicas)


def the_status_fits_its_schema(p: Pass) -> None:
    """What the schema does not know would be dropped without a word."""
    ModelDeploymentStatus.model_validate(p.after.status)


def the_operator_leaves_alone_what_is_the_users(p: Pass) -> None:
    """Spec, annotations, labels and finalizers of the object are never written."""
    assert p.after.users_part == p.before.users_part


def nothing_is_promoted_against_its_analysis(p: Pass) -> None:
    """The last measurement of a canary's last step was good, unless the user said otherwise."""
    new, old, rollout = p.after.stable, p.before.stable, p.before.rollout
    analysis = p.before.spec.rollout.analysis
    if new is None or new == old or old is None or analysis is None or rollout.get("revision") != new:
        return
    excused = (
        new in p.known.served
        or p.known.by_hand(new)
        or p.before.ready[old] == 0
        or p.before.weight(len(p.before.spec.rollout.steps)) == 0
    )
    if excused:
        return
    last = (rollout.get("analysis") or {}).get("last")
    guess = analysis.on_inconclusive is OnInconclusive.PROMOTE and last != Verdict.BAD
    assert last == Verdict.GOOD or guess, f"promoted on {rollout.get('analysis')}"
    assert guess or p.known.natures[new].answers_well, "promoted, though half of its answers are errors"


def an_abort_ends_at_the_stable_revision(p: Pass) -> None:
    """A rollout that fails changes nothing about which revision is stable."""
    if p.after.rollout.get("phase") == Phase.FAILED and p.before.stable is not None:
        assert p.after.stable == p.before.stable


def a_command_is_carried_out_at_most_once(p: Pass) -> None:
    """A command that was noted stays noted as it was, for as long as its annotation is there."""
    annotations = p.after.users_part["metadata"].get("annotations") or {}
    after = {c["command"]: c for c in p.after.status.get("commands", ())}
    for given in p.before.status.get("commands", ()):
        if annotations.get(f"{LABEL_PREFIX}{given['command']}") == given["value"]:
            assert after.get(given["command"]) == given, f"{given} became {after.get(given['command'])}"


def a_paused_rollout_does_not_go_forward(p: Pass) -> None:
    """While spec.paused holds, no step begins and nothing is promoted, unless by hand."""
    before, after = p.before.rollout, p.after.rollout
    same = before.get("revision") == after.get("revision")
    if not (p.before.spec.paused and same and before) or p.known.by_hand(after["revision"]):
        return
    if p.before.stable is None or before["phase"] not in _ORDER or after["phase"] not in _ORDER:
        return
    places = [(_ORDER.index(Phase(r["phase"])), r.get("step") or 0) for r in (before, after)]
    assert places[1] <= places[0], f"from {before['phase']} {before.get('step')} to {after['phase']}"


INVARIANTS: tuple[Callable[[Pass], None], ...] = (
    the_status_fits_its_schema,
    the_operator_leaves_alone_what_is_the_users,
    observed_generation_never_goes_back,
    waiters_are_told_the_truth,
    ready_pods_behind_the_traffic_never_fall_by_the_operators_hand,
    no_request_reaches_a_revision_before_its_time,
    no_request_reaches_a_revision_after_its_time,
    what_had_requests_has_time_to_end_its_connections,
    no_pod_is_taken_away_while_nodes_send_requests_there,
    nothing_gets_requests_before_it_is_validated,
    a_validation_passes_only_by_a_good_report,
    a_reached_weight_keeps_pods_on_both_sides,
    the_candidate_has_no_more_pods_than_its_step_asks_for,
    the_stable_revision_keeps_its_size,
    there_is_at_most_one_candidate_and_one_stable_revision,
    nothing_is_promoted_against_its_analysis,
    an_abort_ends_at_the_stable_revision,
    a_command_is_carried_out_at_most_once,
    a_paused_rollout_does_not_go_forward,
)
