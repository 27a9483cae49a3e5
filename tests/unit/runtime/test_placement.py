"""How inputs come to a device and outputs back. No GPU here: its calls are recorded instead."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.tensors import Array, Datatype, Tensor
from pilothouse_runtime.engine.datatypes import TORCH_DTYPES, as_array, as_torch
from pilothouse_runtime.engine.placement import CudaPlacement, HostPlacement, Placement, placement_on


class Stream:
    """Writes down what is asked of it."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def wait_stream(self, other: str) -> None:
        self.calls.append(f"wait for {other}")

    def synchronize(self) -> None:
        self.calls.append("synchronize")


class Cuda:
    """The part of torch.cuda that is used; memory is the CPU's."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def Stream(self, device: torch.device) -> Stream:  # noqa: N802 - torch's name
        self.calls.append("new stream")
        return Stream(self.calls)

    def default_stream(self, device: torch.device) -> str:
        return "the default stream"

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.calls.append("enter")
        yield
        self.calls.append("leave")

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        self.calls.append(f"pin {list(shape)}")
        return torch.empty(tuple(shape), dtype=dtype)


def of(datatype: Datatype) -> Tensor:
    return Tensor("x", datatype, np.array([[0, 1, 2], [1, 0, 1]]).astype(datatype.dtype))


def placements() -> list[Placement]:
    cuda = Cuda()
    return [HostPlacement(), CudaPlacement(torch.device("cpu"), cuda, cuda.pinned)]


@pytest.mark.parametrize("placement", placements(), ids=["cpu", "cuda"])
@pytest.mark.parametrize("datatype", TORCH_DTYPES)
def test_there_and_back(placement: Placement, datatype: Datatype) -> None:
    tensor = of(datatype)
    tensor.array.flags.writeable = False
    with placement.running():
        there = placement.put([tensor, of(Datatype.FP32)])
        assert there[0].dtype is TORCH_DTYPES[datatype]
        assert there[0].double().tolist() == tensor.array.astype(float).tolist()
        back = placement.get([there[0].t(), there[0][1, 1], there[1]])
    assert [array.dtype for array in back] == [datatype.dtype, datatype.dtype, np.float32]
    assert all(array.flags.c_contiguous for array in back)
    assert back[0].tobytes() == tensor.array.T.tobytes()
    assert (back[1].shape, float(back[1])) == ((), 0)


def test_what_a_run_on_a_gpu_asks_for() -> None:
    cuda = Cuda()
    placement = CudaPlacement(torch.device("cpu"), cuda, cuda.pinned)

    def run() -> None:
        with placement.running():
            placement.get([tensor + 1 for tensor in placement.put([of(Datatype.FP32), of(Datatype.BOOL)])])

    once = ["enter", *["pin [2, 3]"] * 4, "synchronize", "leave"]
    run()
    assert cuda.calls == ["new stream", "wait for the default stream", *once]
    cuda.calls.clear()
    run()
    assert cuda.calls == once
    cuda.calls.clear()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert cuda.calls[0] == "new stream"


def test_outputs_have_no_gradients() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    with HostPlacement().running():
        assert HostPlacement().get([weight * 2, weight])[0].tolist() == [2, 2]


@pytest.mark.parametrize("placement", placements(), ids=["cpu", "cuda"])
def test_texts_are_refused(placement: Placement) -> None:
    text = Tensor("x", Datatype.BYTES, np.array([b"a"], np.object_))
    with pytest.raises(RequestError, match="input 'x': BYTES cannot be given"):
        placement.put([text])


@pytest.mark.parametrize("datatype", TORCH_DTYPES)
def test_memory_is_shared(datatype: Datatype) -> None:
    tensor = of(datatype)
    there = as_torch(tensor)
    there[0, 0] = 1
    assert tensor.array[0, 0] == 1
    back = as_array(there)
    assert np.shares_memory(back, tensor.array)


@pytest.mark.parametrize("bits", [0x3F80, 0x8000, 0x7F80, 0x7FC1, 0x0001])
def test_bf16_keeps_its_bits(bits: int) -> None:
    array: Array = np.array([bits], np.uint16).view(Datatype.BF16.dtype)
    assert as_array(as_torch(Tensor("x", Datatype.BF16, array))).view(np.uint16).tolist() == [bits]


def test_devices() -> None:
    assert isinstance(placement_on(torch.device("cpu")), HostPlacement)
    placed: Any = placement_on(torch.device("cuda"))
    assert isinstance(placed, CudaPlacement)
