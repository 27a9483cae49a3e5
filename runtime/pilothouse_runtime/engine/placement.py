"""Where a model runs: how inputs come to its device, and outputs back.

`CudaPlacement` has never run on a GPU: its calls are tested against a stand-in that records them.
Source: PyTorch, "CUDA semantics": pinned memory, `non_blocking` copies and streams.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.tensors import Array, Datatype, Tensor
from pilothouse_runtime.engine.datatypes import TORCH_DTYPES, as_array, as_torch


class Placement(ABC):
    """One device; may be used by several threads at once."""

    @abstractmethod
    def running(self) -> AbstractContextManager[None]:
        """Return what everything else is done in: without gradients, and on this thread's stream where there is one."""

    @abstractmethod
    def put(self, inputs: Sequence[Tensor]) -> list[torch.Tensor]:
        """Return the inputs on the device.

        Raises:
            RequestError: one is of BYTES.
        """

    @abstractmethod
    def get(self, outputs: Sequence[torch.Tensor]) -> list[Array]:
        """Return the outputs as row-major arrays, when all work on them is done."""


class HostPlacement(Placement):
    """The CPU: inputs and outputs stay where they are, so outputs may share memory with inputs."""

    def running(self) -> AbstractContextManager[None]:
        """See `Placement`."""
        # torch.inference_mode is the same in Python, and takes three times as long.
        return torch._C._InferenceMode(True)

    def put(self, inputs: Sequence[Tensor]) -> list[torch.Tensor]:
        """See `Placement`."""
        return [as_torch(tensor) for tensor in inputs]

    def get(self, outputs: Sequence[torch.Tensor]) -> list[Array]:
        """See `Placement`."""
        return [as_array(output) for output in outputs]


class CudaPlacement(Placement):
    """A GPU: copies go by pinned memory, and each thread waits for its own stream only, once a run.

    Args:
        cuda: torch.cuda, or what stands for it in tests.
        pinned: makes an empty tensor, of a shape and a dtype, in memory that the GPU can copy by itself.
    """

    def __init__(
        self,
        device: torch.device,
        cuda: Any = torch.cuda,
        pinned: Callable[[Sequence[int], torch.dtype], torch.Tensor] | None = None,
    ) -> None:
        self._device = device
        self._cuda = cuda
        self._pinned = pinned or _pinned
        self._threads = threading.local()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """See `Placement`."""
        with torch.inference_mode(), self._cuda.stream(self._stream()):
            yield

    def put(self, inputs: Sequence[Tensor]) -> list[torch.Tensor]:
        """See `Placement`. The copies are under way when this returns; what the stream does next waits for them."""
        # torch keeps pinned memory that is dropped until the copies from it are done.
        return [self._staged(tensor).to(self._device, non_blocking=True) for tensor in inputs]

    def get(self, outputs: Sequence[torch.Tensor]) -> list[Array]:
        """See `Placement`."""
        staged = [
            self._pinned(output.shape, output.dtype).copy_(output, non_blocking=True) for output in outputs
        ]
        self._stream().synchronize()
        return [as_array(tensor) for tensor in staged]

    def _stream(self) -> Any:
        """Return this thread's stream, which begins when the weights are in place."""
        stream = getattr(self._threads, "stream", None)
        if stream is None:
            stream = self._threads.stream = self._cuda.Stream(self._device)
            stream.wait_stream(self._cuda.default_stream(self._device))
        return stream

    def _staged(self, tensor: Tensor) -> torch.Tensor:
        if tensor.datatype is Datatype.BYTES:
            raise invalid(f"input {tensor.name!r}: BYTES cannot be given to a model of PyTorch")
        staged = self._pinned(tensor.array.shape, TORCH_DTYPES[tensor.datatype])
        if tensor.datatype is Datatype.BF16:
            np.copyto(staged.view(torch.uint16).numpy(), tensor.array.view(np.uint16))
        else:
            np.copyto(staged.numpy(), tensor.array)
        return staged


def _pinned(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)


def placement_on(device: torch.device) -> Placement:
    """Return the placement of a device: "cpu" or "cuda"."""
    return HostPlacement() if device.type == "cpu" else CudaPlacement(device)
