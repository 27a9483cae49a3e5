"""What the data plane needs of an engine: the seam behind which models run, in batches or one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.tensors import Signature, Tensor


@dataclass(frozen=True)
class ModelDescription:
    """What is known of a loaded model: `platform` in the protocol's words, signature None where it has none.

    `max_batch` is the most rows of several requests that are run as one; 1 where requests are never put together.
    """

    format: str
    platform: str
    signature: Signature | None
    max_batch: int = 1
    weight_bytes: int = 0  # of parameters and buffers


Reply = Callable[[list[Tensor] | RequestError], None]


class Job:
    """One request on its way through the queue and the model.

    Attributes:
        inputs: decoded and checked, in the model's order.
        reply: called once, in the loop's thread, with all outputs or with what went wrong; never once `cancelled`.
        deadline: monotonic seconds after which nobody waits for the answer, or None.
        arrived: monotonic seconds when it was queued; `started` and `ended` when the model began and ended it, or 0.
        batch: how many rows the model ran together with it, its own included.
        cancelled: the client has left.
    """

    __slots__ = (
        "arrived", "batch", "cancelled", "deadline", "ended", "inputs", "key", "reply", "rows", "started",
    )  # fmt: skip

    def __init__(self, inputs: Sequence[Tensor], reply: Reply, deadline: float | None = None) -> None:
        self.inputs = inputs
        self.reply = reply
        self.deadline = deadline
        self.arrived = 0.0
        self.started = 0.0
        self.ended = 0.0
        self.rows = 1
        self.batch = 0
        self.key: Any = None
        self.cancelled = False


class Predictor(Protocol):
    """Runs requests that have been decoded and checked."""

    @property
    def description(self) -> ModelDescription:
        """What the model is."""

    def submit(self, job: Job) -> None:
        """Queue a job; its reply comes later, in the thread of the event loop, which is the caller's.

        Raises:
            RequestError: the queue is full, or the job's deadline has passed.
        """

    def cancel(self, job: Job) -> None:
        """Drop a job whose client has left; one that runs already runs on, and nobody is told."""
