"""Rows of several requests as one batch, and the batch's answers as rows again: numpy only, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.tensors import Tensor


def stack(jobs_inputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the inputs of one run for those of several jobs, one below the other in their first dimension.

    Args:
        jobs_inputs: for each job its tensors, [rows, ...]; all jobs have the same names in the same order, and equal
            datatypes and shapes but for the rows. One job's tensors are taken as they are, without a copy.
    """
    if len(jobs_inputs) == 1:
        return list(jobs_inputs[0])
    return [
        Tensor(column[0].name, column[0].datatype, np.concatenate([tensor.array for tensor in column]))
        for column in zip(*jobs_inputs, strict=True)
    ]


def split(outputs: Sequence[Tensor], rows: Sequence[int]) -> list[list[Tensor]]:
    """Return each job's outputs, as views of its rows.

    Args:
        outputs: of one run, [sum of rows, ...].
        rows: how many of them belong to each job, in order.
    Raises:
        RequestError: INTERNAL, an output has another number of rows: it is not the jobs' answers one below the other.
    """
    total = sum(rows)
    single = total == len(rows) and 0 not in rows
    columns = []
    for output in outputs:
        name, datatype, array = output.name, output.datatype, output.array
        if not array.ndim or len(array) != total:
            raise RequestError(
                Code.INTERNAL,
                f"the model's output {name!r} has the shape {list(array.shape)} for {total} rows of several requests:"
                " it does not answer row by row",
            )
        if single:  # iterating is twice as fast as slicing
            columns.append([Tensor(name, datatype, part) for part in array[:, np.newaxis]])
            continue
        column, start = [], 0
        for count in rows:
            end = start + count
            column.append(Tensor(name, datatype, array[start:end]))
            start = end
        columns.append(column)
    return [list(job) for job in zip(*columns, strict=True)] if columns else [[] for _ in rows]
