"""What the data plane needs of an engine: the seam behind which one executor, or later a batcher, sits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pilothouse_runtime.core.tensors import Signature, Tensor


@dataclass(frozen=True)
class ModelDescription:
    """What is known of a loaded model: `platform` in the protocol's words, signature None where it has none."""

    format: str
    platform: str
    signature: Signature | None


class Predictor(Protocol):
    """Runs one request that has been decoded and checked."""

    @property
    def description(self) -> ModelDescription:
        """What the model is."""

    async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return all outputs for inputs in the model's order.

        Raises:
            RequestError: the queue is full, the tensors do not fit the model, or the model failed.
        """
