"""One validation: get the data set, have the revision answer it, and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pilothouse_runtime.contract import FailureReason, ValidationReport
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.tensors import Array
from pilothouse_runtime.engine.golden import Golden, not_done, read_golden
from pilothouse_runtime.engine.source import LocalFile, Source, fetch
from pilothouse_runtime.validate.client import Revision
from pilothouse_runtime.validate.scores import MismatchError, Tally
from pilothouse_runtime.validate.settings import ValidationSettings

BATCH_ROWS: Final = 32
BATCH_BYTES: Final = 4 * 1024 * 1024  # of inputs; far below what any server takes


def validate(settings: ValidationSettings, source: Source, tell: Callable[[str], None]) -> ValidationReport:
    """Return what the metric came to. Waits without end for a revision that cannot be reached.

    Args:
        tell: is given, for people, what is going on.
    Raises:
        LoadError: ValidationNotDone, ValidationFailed or InvalidConfiguration.
    """
    file = _fetched(settings, source, tell)
    golden = read_golden(file, needs_outputs=settings.stable_url is None)
    revision = Revision(
        "the new revision", settings.url, settings.model_name, FailureReason.VALIDATION_FAILED, tell
    )
    size = revision.meet() or batch_rows(golden)
    stable = None
    if settings.stable_url:
        stable = Revision(
            "the stable revision",
            settings.stable_url,
            settings.model_name,
            FailureReason.VALIDATION_NOT_DONE,
            tell,
        )
        stable.meet()
    tally = Tally(settings.metric)
    for answers, expected in answered(golden, revision, size, stable):
        try:
            tally.add(answers, expected)
        except MismatchError as error:
            raise revision.wrong(str(error)) from None
        tell(f"{tally.rows} of {golden.rows} rows compared")
    against = "the stable revision's answers" if stable else "the data set"
    compared = f"{tally.rows} rows, outputs {', '.join(expected)}, against {against}"
    told = (
        f"{settings.metric} is not a number: {tally.flaw}"
        if tally.flaw
        else f"{settings.metric} {tally.value:.6g}"
    )
    return ValidationReport(settings.metric, tally.value, tally.rows, f"{told} ({compared})")


def answered(
    golden: Golden, revision: Revision, size: int, stable: Revision | None = None
) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """Yield, for `size` rows after the other, what the revision answers and what is expected.

    Args:
        stable: answers are expected to be those of this revision; None: the outputs of the data set.
    Raises:
        LoadError: one of the two does not answer as it should.
    """
    names = list(golden.outputs)
    for start in range(0, golden.rows, size):
        rows = slice(start, start + size)
        inputs = {name: array[rows] for name, array in golden.inputs.items()}
        answers = revision.answers(inputs, names)
        if stable:
            yield answers, stable.answers(inputs, names)
        else:
            yield answers, {name: array[rows] for name, array in golden.outputs.items()}


def _fetched(settings: ValidationSettings, source: Source, tell: Callable[[str], None]) -> LocalFile:
    try:
        return fetch(settings.uri, settings.digest, source, tell)
    except LoadError as error:
        if error.reason is FailureReason.INVALID_CONFIGURATION:
            raise
        raise not_done(f"the data set: {error.message}", permanent=error.permanent) from error


def batch_rows(golden: Golden) -> int:
    """Return how many rows are sent at a time to a revision that takes any number."""
    row_bytes = sum(array.nbytes for array in golden.inputs.values()) // golden.rows
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(row_bytes, 1)))
