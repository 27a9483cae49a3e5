"""How many pods serve where a HorizontalPodAutoscaler decides."""

from __future__ import annotations

from pydantic import Field

from pilothouse.api.rules import Rule, SpecModel


class Target(SpecModel):
    """The load of one pod that the autoscaler aims at."""

    cpu: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Average CPU use in percent of runtime.resources.requests.cpu.",
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Average requests in flight in each pod. Needs a custom metrics adapter that serves "
        "pilothouse_requests_in_flight.",
    )

    rules = (
        Rule(
            "",
            "must have exactly one of cpu and concurrency",
            lambda self: (self.cpu is None) != (self.concurrency is None),
            "has(self.cpu) != has(self.concurrency)",
        ),
    )


class Autoscaling(SpecModel):
    """Makes a HorizontalPodAutoscaler, which then owns spec.replicas."""

    min_replicas: int = Field(default=1, ge=1, le=1000, description="The fewest pods.")
    max_replicas: int = Field(ge=1, le=1000, description="The most pods.")
    target: Target = Field(description="The load of one pod that is aimed at.")

    rules = (
        Rule(
            "maxReplicas",
            "must not be below minReplicas",
            lambda self: self.min_replicas <= self.max_replicas,
            "(has(self.minReplicas) ? self.minReplicas : 1) <= self.maxReplicas",
        ),
    )
