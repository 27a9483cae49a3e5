"""Rows of several requests as one batch, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.tensors import Array, Datatype, Tensor
from pilothouse_runtime.engine.stacking import split, stack


def tensors(*arrays: Any) -> list[Tensor]:
    return [Tensor(f"t{index}", Datatype.FP32, np.asarray(array)) for index, array in enumerate(arrays)]


def arrays_of(jobs: list[list[Tensor]]) -> list[list[Any]]:
    return [[tensor.array.tolist() for tensor in job] for job in jobs]


def test_what_is_stacked_is_split_into_the_same() -> None:
    jobs = [tensors([[1.0]], [[7, 8]]), tensors([[2.0], [3.0]], [[5, 6], [3, 4]]), tensors([[4.0]], [[1, 2]])]
    together = stack(jobs)
    assert [(t.name, t.array.tolist()) for t in together] == [
        ("t0", [[1], [2], [3], [4]]),
        ("t1", [[7, 8], [5, 6], [3, 4], [1, 2]]),
    ]
    parts = split(together, [1, 2, 1])
    assert arrays_of(parts) == arrays_of(jobs)
    assert [[tensor.name for tensor in job] for job in parts] == [["t0", "t1"]] * 3


@pytest.mark.parametrize("rows", [[1, 1, 1], [1, 2], [3], [0, 1, 2], [2, 1, 0], [0, 0, 3]])
def test_parts_are_views(rows: list[int]) -> None:
    answer = tensors(np.arange(6.0).reshape(3, 2))
    parts = split(answer, rows)
    assert [len(job[0].array) for job in parts] == rows
    assert np.concatenate([job[0].array for job in parts]).tolist() == answer[0].array.tolist()
    assert all(np.shares_memory(job[0].array, answer[0].array) for job in parts if job[0].array.size)


def test_one_job_is_not_copied() -> None:
    job = tensors([[1.0], [2.0]])
    assert stack([job])[0].array is job[0].array


def test_texts_are_stacked_too() -> None:
    one, two = (Tensor("t", Datatype.BYTES, np.array([text], np.object_)) for text in (b"a", b"bc"))
    assert stack([[one], [two]])[0].array.tolist() == [b"a", b"bc"]


def test_no_outputs() -> None:
    assert split([], [1, 1]) == [[], []]


@pytest.mark.parametrize("array", [np.float32(1), np.zeros((1, 2)), np.zeros((2, 3))])
def test_answers_that_are_no_rows(array: Array) -> None:
    with pytest.raises(RequestError, match="for 3 rows of several requests") as caught:
        split(tensors(array), [1, 2])
    assert caught.value.code is Code.INTERNAL
