"""The spec of a ModelDeployment, v1alpha1.

Defaults are part of the API and of every revision's hash (see `pilothouse.api.revision`): a field may be added
with a default, but a default is never changed.
"""

from __future__ import annotations

from pydantic import Field

from pilothouse.api.ability import ABILITY_RULES
from pilothouse.api.autoscaling import Autoscaling
from pilothouse.api.model import Model
from pilothouse.api.rollout import Rollout
from pilothouse.api.rules import Rule, SpecModel, matches
from pilothouse.api.runtime import Runtime

_LOCAL = "^(file|pvc)://"


def _fetches(spec: ModelDeploymentSpec) -> bool:
    """Whether anything that a spec names has to be fetched."""
    sets = (spec.rollout.validation, spec.runtime.drift)
    uris = [spec.model.uri, *(data.uri for data in sets if data is not None)]
    return not all(matches(_LOCAL, uri) for uri in uris)


class ModelDeploymentSpec(SpecModel):
    """What a user asks for. `model` and `runtime` make a revision; the rest never does."""

    model: Model = Field(description="Which model is served. A change makes a new revision.")
    runtime: Runtime = Field(
        default_factory=Runtime, description="What the model runs in. A change makes a new revision."
    )
    replicas: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="How many pods serve the model. With autoscaling, leave it out: the autoscaler sets it.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="Makes a HorizontalPodAutoscaler that sets replicas."
    )
    rollout: Rollout = Field(
        default_factory=Rollout, description="How a new revision takes over from the one that serves."
    )
    paused: bool = Field(
        default=False,
        description="Holds rollouts: none begins and none goes on. What serves is served and scaled as ever.",
    )

    rules = (
        *ABILITY_RULES,
        Rule(
            "model.secretName",
            "is for what is fetched; file:// and pvc:// need no credentials: take it away",
            lambda self: not self.model.secret_name or _fetches(self),
            "!has(self.model.secretName) || self.model.secretName == '' || "
            f"!self.model.uri.matches('{_LOCAL}') || "
            "has(self.rollout) && has(self.rollout.validation) && "
            f"!self.rollout.validation.uri.matches('{_LOCAL}') || "
            "has(self.runtime) && has(self.runtime.drift) && "
            f"!self.runtime.drift.uri.matches('{_LOCAL}')",
        ),
        Rule(
            "autoscaling",
            "aims at a share of the CPU asked for, but none is; add one to runtime.resources.requests",
            lambda self: (
                self.autoscaling is None
                or self.autoscaling.target.cpu is None
                or "cpu" in self.runtime.resources.requests
            ),
            "!has(self.autoscaling) || !has(self.autoscaling.target.cpu) || has(self.runtime) && "
            "has(self.runtime.resources) && has(self.runtime.resources.requests) && "
            "'cpu' in self.runtime.resources.requests",
        ),
        Rule(
            "runtime",
            "names the Secret of the model's source in sampling.secretName, but the container that serves must not "
            "have it; make one that may write samples, and do nothing else",
            lambda self: (
                self.runtime.sampling is None
                or not self.runtime.sampling.secret_name
                or self.runtime.sampling.secret_name != self.model.secret_name
            ),
            "!has(self.model.secretName) || self.model.secretName == '' || !has(self.runtime) || "
            "!has(self.runtime.sampling) || !has(self.runtime.sampling.secretName) || "
            "self.runtime.sampling.secretName != self.model.secretName",
        ),
    )
