"""How a new revision takes over: the part of the spec that says in which steps, and what must hold on the way."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from pilothouse.api.durations import Duration, between
from pilothouse.api.names import NAME_PATTERN
from pilothouse.api.rules import Rule, SpecModel, in_cel, matches
from pilothouse.api.uris import DATA_RULES, URI_PATTERN

DIGEST_PATTERN: Final = "^sha256:[0-9a-f]{64}$"
PERCENTAGE_PATTERN: Final = r"^[0-9]{1,6}([.][0-9]{1,6})?%$"

Percentage = Annotated[str, Field(pattern=PERCENTAGE_PATTERN, max_length=16)]
Number = Annotated[float, Field(allow_inf_nan=False)]

AT_MOST_ALL = "^(0*[0-9]{1,2}([.][0-9]+)?|0*100([.]0+)?)%$"


def fraction(text: str) -> float:
    """Return the number that a percentage stands for: "1%" is 0.01."""
    return float(text.removesuffix("%")) / 100


class Strategy(StrEnum):
    """How a new revision takes over."""

    ROLLING_UPDATE = "RollingUpdate"
    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"


class OnFailure(StrEnum):
    """What becomes of the pods of a revision that failed. Requests go to the stable revision in any case."""

    ROLLBACK = "Rollback"
    PAUSE = "Pause"


class OnInconclusive(StrEnum):
    """What to do where a step ends and too few requests came to judge the new revision."""

    PAUSE = "Pause"
    ROLLBACK = "Rollback"
    PROMOTE = "Promote"


class Metric(StrEnum):
    """What a validation computes."""

    ACCURACY = "accuracy"
    MEAN_SQUARED_ERROR = "meanSquaredError"
    MAX_DIFFERENCE = "maxDifference"


class Against(StrEnum):
    """What a validation compares the new revision's answers with."""

    EXPECTED = "Expected"
    STABLE = "Stable"


def _orderly(self: Any) -> bool:
    return self.min is None or self.max is None or self.min <= self.max


_ORDERLY: Final = Rule(
    "min",
    "must not be above max: no value is good then",
    _orderly,
    "!has(self.min) || !has(self.max) || self.min <= self.max",
)


_HAS_FOR: Final = f"has(self.{in_cel('for')})"


class Step(SpecModel):
    """One step of a canary rollout."""

    weight: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Share of the requests, in percent, that the new revision gets. Default: as in the step before.",
    )
    for_: Duration | None = Field(
        default=None,
        alias="for",
        description="How long the step lasts from the moment its weight is reached. Default: no longer than that.",
    )
    pause: bool = Field(default=False, description="Whether the step lasts until somebody promotes it.")

    rules = (
        between("for", "for_", "0s"),
        Rule(
            "",
            "must say something: a weight, how long (for), or pause: true",
            lambda self: self.weight is not None or self.for_ is not None or self.pause,
            f"has(self.weight) || {_HAS_FOR} || has(self.pause) && self.pause",
        ),
        Rule(
            "for",
            "cannot stand beside pause: true, which lasts until somebody promotes it",
            lambda self: not (self.pause and self.for_ is not None),
            f"!{_HAS_FOR} || !has(self.pause) || !self.pause",
        ),
    )


class Query(SpecModel):
    """One question to Prometheus, and the bounds of a good answer."""

    name: str = Field(pattern=NAME_PATTERN, max_length=63, description="What messages call this query.")
    query: str = Field(
        min_length=1,
        max_length=4096,
        description="PromQL with one number as its answer. $(namespace), $(model), $(revision), $(stable) and "
        "$(window), such as 60s, are filled in.",
    )
    min: Number | None = Field(default=None, description="The least that is good.")
    max: Number | None = Field(default=None, description="The most that is good.")

    rules = (
        Rule(
            "",
            "must have a bound: min, max or both",
            lambda self: self.min is not None or self.max is not None,
            "has(self.min) || has(self.max)",
        ),
        _ORDERLY,
    )


class Analysis(SpecModel):
    """What the new revision's requests must look like during the steps of a canary rollout."""

    interval: Duration = Field(default="15s", description="How often the requests are measured.")
    min_requests: int = Field(
        default=50,
        ge=1,
        le=1_000_000_000,
        description="Requests that a measurement needs: with fewer it is inconclusive, never good, and goes on.",
    )
    max_error_rate: Percentage | None = Field(
        default=None,
        description="The most requests of the new revision, in percent, that may end in a 5xx or a 429.",
    )
    max_latency_p99: Duration | None = Field(
        default=None, description="The longest that the 99th percentile of its latency may be."
    )
    max_latency_p99_increase: Percentage | None = Field(
        default=None,
        description="How much longer, in percent, that may be than the stable revision's in the same time.",
    )
    prometheus: tuple[Query, ...] = Field(
        default=(),
        max_length=8,
        description="Further questions, to the Prometheus that the operator is configured with.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    failure_limit: int = Field(
        default=3, ge=1, le=1000, description="At this many bad measurements of a rollout it has failed."
    )
    on_inconclusive: OnInconclusive = Field(
        default=OnInconclusive.PAUSE,
        description="What to do where a step ends and too few requests came to judge by. Pause: wait for more, or for "
        "a promotion by hand.",
    )

    rules = (
        between("interval", "interval", "1s", "1h"),
        Rule(
            "maxErrorRate",
            "must be at most 100%: there are no more requests than all",
            lambda self: self.max_error_rate is None or matches(AT_MOST_ALL, self.max_error_rate),
            f"!has(self.maxErrorRate) || self.maxErrorRate.matches('{AT_MOST_ALL}')",
        ),
        between("maxLatencyP99", "max_latency_p99", "1ms"),
        Rule(
            "",
            "judges by nothing; set maxErrorRate, maxLatencyP99, maxLatencyP99Increase or prometheus",
            lambda self: (
                any(
                    bound is not None
                    for bound in (self.max_error_rate, self.max_latency_p99, self.max_latency_p99_increase)
                )
                or bool(self.prometheus)
            ),
            "has(self.maxErrorRate) || has(self.maxLatencyP99) || has(self.maxLatencyP99Increase) || "
            "has(self.prometheus) && size(self.prometheus) > 0",
        ),
        Rule(
            "prometheus",
            "names a query twice; names must be unique",
            lambda self: len({q.name for q in self.prometheus}) == len(self.prometheus),
            # The API server sees to it, on every version: the list is a map by name.
            None,
        ),
    )


def _possible(bound: str) -> Rule:
    """Return the rule that a bound must be a value that the metric can have."""

    def holds(self: Any) -> bool:
        value = getattr(self, bound)
        return value is None or (value >= 0 and (self.metric is not Metric.ACCURACY or value <= 1))

    name = f"self.{bound}"
    return Rule(
        bound,
        "is no value that the metric can have: accuracy is a share, from 0 to 1, and no error is below 0",
        holds,
        f"!has({name}) || {name} >= 0.0 && (self.metric != 'accuracy' || {name} <= 1.0)",
    )


class Validation(SpecModel):
    """What the new revision must answer before any user's request reaches it."""

    uri: str = Field(
        pattern=URI_PATTERN,
        max_length=4096,
        description="Where the golden data set is: an .npz file with an array input.NAME for each input of the model "
        "and, against Expected, output.NAME for each output to compare. Sources are those of spec.model.uri.",
    )
    digest: str | None = Field(
        default=None,
        pattern=DIGEST_PATTERN,
        max_length=71,
        description="sha256:<64 lower case hex digits> of the file.",
    )
    metric: Metric = Field(
        description="accuracy: share of rows whose class is right. meanSquaredError: over all elements. "
        "maxDifference: the largest absolute difference of any element."
    )
    against: Against = Field(
        default=Against.EXPECTED,
        description="What answers are compared with: the data set's outputs, or what the stable revision answers.",
    )
    min: Number | None = Field(default=None, description="The least that passes.")
    max: Number | None = Field(default=None, description="The most that passes.")
    timeout: Duration = Field(
        default="5m", description="How long the validation may take; after that it has not passed."
    )

    rules = (
        *DATA_RULES,
        between("timeout", "timeout", "1s"),
        Rule(
            "min",
            "is needed by metric accuracy, of which more is better, as in min: 0.95",
            lambda self: self.metric is not Metric.ACCURACY or self.min is not None,
            "self.metric != 'accuracy' || has(self.min)",
        ),
        Rule(
            "max",
            "is needed by metrics meanSquaredError and maxDifference, of which less is better, as in max: 0.001",
            lambda self: self.metric is Metric.ACCURACY or self.max is not None,
            "self.metric == 'accuracy' || has(self.max)",
        ),
        *(_possible(bound) for bound in ("min", "max")),
        _ORDERLY,
    )


class Rollout(SpecModel):
    """How a new revision takes over from the one that serves."""

    strategy: Strategy = Field(
        default=Strategy.ROLLING_UPDATE,
        description="RollingUpdate: the new revision comes up to full size, takes all requests, then the old one goes. "
        "Canary: it gets more and more of the requests, in steps. BlueGreen: it comes up to full size behind "
        "<name>-preview, takes all requests in one switch, and the old one stays for scaleDownDelay as the way back.",
    )
    steps: tuple[Step, ...] = Field(default=(), max_length=32, description="The steps of a canary rollout.")
    analysis: Analysis | None = Field(
        default=None, description="What requests must look like during the steps of a canary rollout."
    )
    validation: Validation | None = Field(
        default=None, description="What the new revision must answer before any user's request reaches it."
    )
    auto_promote: bool = Field(
        default=True,
        description="BlueGreen: whether the switch is made as soon as all is well, or waits for a promotion by hand.",
    )
    surge: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="RollingUpdate: how many pods there may be beyond spec.replicas. Default: as many again. 0 is for "
        "clusters with no room: each old pod goes before a new one comes, and one replica means an outage.",
    )
    on_failure: OnFailure = Field(
        default=OnFailure.ROLLBACK,
        description="Pods of a revision that failed: Rollback takes them away after scaleDownDelay, Pause keeps them, "
        "without requests, to be looked at. Requests go to the stable revision either way.",
    )
    progress_deadline: Duration = Field(
        default="10m",
        description="How long the pods that a new revision, or a step of it, needs may take to be ready; then it has "
        "failed.",
    )
    scale_down_delay: Duration = Field(
        default="30s",
        description="How long the pods of a replaced revision stay, so that its connections can end.",
    )
    revision_history_limit: int = Field(
        default=5, ge=0, le=100, description="How many revisions that no longer serve are remembered."
    )

    rules = (
        between("progressDeadline", "progress_deadline", "1s"),
        between("scaleDownDelay", "scale_down_delay", "0s"),
        Rule(
            "steps",
            "are needed by strategy Canary and by no other; add some, as in {weight: 20, for: 5m}, or take them away",
            lambda self: (self.strategy is Strategy.CANARY) == bool(self.steps),
            "(has(self.strategy) && self.strategy == 'Canary') == (has(self.steps) && size(self.steps) > 0)",
        ),
        Rule(
            "analysis",
            "is for strategy Canary: with the others there is no time in which both revisions get requests",
            lambda self: self.analysis is None or self.strategy is Strategy.CANARY,
            "!has(self.analysis) || has(self.strategy) && self.strategy == 'Canary'",
        ),
        Rule(
            "autoPromote",
            "is for strategy BlueGreen; a canary rollout waits at a step with pause: true",
            lambda self: self.auto_promote or self.strategy is Strategy.BLUE_GREEN,
            "!has(self.autoPromote) || self.autoPromote || has(self.strategy) && self.strategy == 'BlueGreen'",
        ),
        Rule(
            "surge",
            "is for strategy RollingUpdate: the others need both revisions side by side",
            lambda self: self.surge is None or self.strategy is Strategy.ROLLING_UPDATE,
            "!has(self.surge) || !has(self.strategy) || self.strategy == 'RollingUpdate'",
        ),
    )
