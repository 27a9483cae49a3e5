"""Which stories are told: hypothesis strategies for `tests.property.plan.story`."""

from __future__ import annotations

from hypothesis import strategies as st

from pilothouse.api.conditions import Command
from pilothouse.control.errors import ConflictError, PilothouseError, TransientError
from pilothouse_runtime.contract import FailureReason, LastWords
from tests.property.plan.story import (
    Away,
    Break,
    Change,
    Evict,
    Hold,
    Late,
    Line,
    Nature,
    Order,
    Remove,
    Rush,
    Scale,
    Silence,
    Stage,
    Turn,
    Way,
    Whose,
    Work,
)
from tests.support.memory_cluster import Fault
from tests.support.played_pods import Fate, Kind
from tests.support.played_traffic import Temper
from tests.support.world import validated

_GOOD = Fate()
_TIMED_OUT = LastWords(FailureReason.MODEL_DOWNLOAD_FAILED, "timed out", permanent=False).encode()
_OTHER_DIGEST = LastWords(FailureReason.DIGEST_MISMATCH, "another digest", permanent=True).encode()
_POD_FATES = [
    *[_GOOD] * 8,
    Fate(Kind.RUNNING),
    Fate(Kind.PENDING),
    Fate(Kind.UNSCHEDULABLE),
    Fate(Kind.IMAGE_PULL_BACK_OFF),
    Fate(Kind.OUT_OF_MEMORY),
    Fate(Kind.QUOTA),
    Fate(Kind.CRASH, "Traceback ...\nRuntimeError: boom"),
    Fate(Kind.CRASH, _TIMED_OUT),
    Fate(Kind.CRASH, _OTHER_DIGEST),
]
_JOB_FATES = [
    *[validated(0.99)] * 4,
    validated(0.99, seconds=40),
    validated(0.5),
    validated(0.5, seconds=40),
    Fate(Kind.DONE, "no report"),
    Fate(Kind.CRASH, _TIMED_OUT),
    Fate(Kind.CRASH, _OTHER_DIGEST),
    Fate(Kind.OUT_OF_MEMORY),
    Fate(Kind.RUNNING),
    Fate(Kind.PENDING),
    Fate(Kind.UNSCHEDULABLE),
    Fate(Kind.IMAGE_PULL_BACK_OFF),
    Fate(Kind.QUOTA),
]
_TEMPERS = [*[Temper()] * 3, Temper(errors=0.01), Temper(errors=0.5)]

_stages = st.one_of(
    st.builds(Stage, st.sampled_from([20, 50, 80, 1, 99, 0, 100, 33]), st.sampled_from([30, 0, None, 90])),
    st.builds(Stage, st.sampled_from([50, None, 0, 100]), pause=st.just(True)),
    st.builds(Stage, st.none(), st.sampled_from([30, 5])),
)
_analyses = st.sampled_from([None, None, "Pause", "Rollback", "Promote"])
_seldom = st.sampled_from([False, False, True])

rolling = st.builds(
    Way,
    surge=st.sampled_from([None, None, 0, 1, 2, 5]),
    validation=_seldom,
    keeps_failed=_seldom,
)
canaries = st.builds(
    Way,
    st.just("Canary"),
    st.lists(_stages, min_size=1, max_size=4).map(tuple),
    analysed=_analyses,
    validation=_seldom,
    keeps_failed=_seldom,
)
blue_green = st.builds(
    Way, st.just("BlueGreen"), by_hand=st.booleans(), validation=_seldom, keeps_failed=_seldom
)
ways = st.one_of(rolling, canaries, canaries, blue_green)
# Ways that need nobody's help to come to an end.
unaided = st.sampled_from(
    [
        Way(),
        Way(surge=0),
        Way(surge=1, validation=True),
        Way("Canary", (Stage(20, 30), Stage(50, 30)), analysed="Pause"),
        Way("Canary", (Stage(80, 20), Stage(None, 5), Stage(100, 20)), validation=True),
        Way("BlueGreen", validation=True),
    ]
)

_natures = st.builds(
    Nature, st.sampled_from(_POD_FATES), st.sampled_from(_JOB_FATES), st.sampled_from(_TEMPERS)
)
_replicas = st.sampled_from([2, 3, 1, 4, 5, 0])
_whose = st.sampled_from([Whose.TARGET, Whose.TARGET, Whose.STABLE, Whose.OTHER])
_either = st.sampled_from([Whose.TARGET, Whose.STABLE])
_errors: st.SearchStrategy[PilothouseError] = st.sampled_from(
    [TransientError("away"), ConflictError("changed")]
)


def changes(of: st.SearchStrategy[Way] = ways) -> st.SearchStrategy[Change]:
    """Return changes of the spec: of its model, its replicas, its way of rolling out, or all of them."""
    return st.builds(
        Change, st.integers(1, 3), _replicas, of, _natures, st.sampled_from([False] * 5 + [True])
    )


_work = st.builds(Work, st.integers(1, 12), st.sampled_from([4, 4, 1, 2, 0]), st.sampled_from([1, 0, 10, 40]))
_orders = st.builds(
    Order,
    st.sampled_from([Command.PROMOTE, Command.PROMOTE, *Command]),
    _whose,
    st.sampled_from(["", "full", "again"]),
)
_faults = st.builds(Fault, _errors, st.sampled_from(["request", "answer"]))
_breaks = st.builds(Break, st.integers(1, 9), _faults, st.booleans())
_rare = st.one_of(
    st.builds(Away, st.sampled_from([5, 40, 700])),
    st.builds(Turn, _either, st.sampled_from([Fate(Kind.CRASH, "boom"), _GOOD, Fate(Kind.RUNNING)])),
    st.builds(Evict, _either, st.integers(1, 3)),
    st.builds(
        Remove,
        st.sampled_from(["Deployment", "Service", "Job", "PodDisruptionBudget"]),
        _either,
    ),
    st.just(Remove("Service", None)),
    st.builds(Rush, st.sampled_from([0.0, 0.5, 20.0])),
    st.builds(Silence, _either, st.booleans()),
    st.builds(Late, st.booleans()),
)
_events: st.SearchStrategy[Line] = st.one_of(
    changes(),
    _orders,
    _breaks,
    st.builds(Scale, _replicas),
    st.builds(Hold, st.booleans()),
    _rare,
)
# After most of what happens, everybody works for a while: a story of events alone goes nowhere.
_scenes = st.one_of(
    st.tuples(_events),
    st.tuples(_events, _work),
    st.tuples(_work, _events, _work),
)


def _told(scenes: list[tuple[Line, ...]]) -> list[Line]:
    return [line for scene in scenes for line in scene]


stories: st.SearchStrategy[list[Line]] = st.lists(_scenes, max_size=8).map(_told)
