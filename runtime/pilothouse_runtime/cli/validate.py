"""`pilothouse-runtime validate`: how good a server's answers to a golden data set are."""

from __future__ import annotations

import argparse
import json
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pilothouse_runtime.cli.usage import (
    DONE,
    NOT_DONE,
    REFUSED,
    command,
    existing,
    number,
    refuse,
    show,
    tell,
)
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.engine.golden import read_golden
from pilothouse_runtime.engine.source import LocalFile
from pilothouse_runtime.process import exit_now
from pilothouse_runtime.validate.client import Revision
from pilothouse_runtime.validate.scores import Metric, MismatchError, Tally
from pilothouse_runtime.validate.validation import answered, batch_rows

_DESCRIPTION = """\
Send a golden data set to a model on any server of the Open Inference Protocol v2 (this runtime, KServe, Triton),
compare its answers with those of the data set, and print every metric that can be computed.

  $ pilothouse-runtime validate golden.npz --url http://localhost:8080 --model digits --metric accuracy --min 0.95
  digits at http://localhost:8080, 200 rows, outputs logits
  accuracy          0.99      at least 0.95: passed
  meanSquaredError  -         output 'logits' has the shape ...

GOLDEN is an .npz file with an array input.NAME for each input and output.NAME for each output to compare; `pack`
writes one, and docs/runtime.md ("Golden data sets") says how the metrics are computed. A rollout does the same with
rollout.validation before a new revision gets a request.
"""
_ENDING = """\
exit codes:
  0  the metrics were computed, and are within the bounds that were given
  1  a bound is broken, an answer holds NaN, or the model answers with errors or with other shapes
  2  wrong use
  3  nothing can be said: nobody answers within --timeout, or the data set cannot be used
"""


@dataclass(frozen=True)
class _Bound:
    metric: Metric | None
    least: float | None
    most: float | None

    def verdict(self, metric: Metric, value: float) -> tuple[bool, str]:
        """Return whether a value passes, and what to say of it."""
        if metric is not self.metric:
            return True, ""
        limits = [f"at least {self.least:g}"] if self.least is not None else []
        limits += [f"at most {self.most:g}"] if self.most is not None else []
        passed = not math.isnan(value)
        passed = passed and (self.least is None or value >= self.least)
        passed = passed and (self.most is None or value <= self.most)
        if not limits:
            return passed, "" if passed else "failed"
        return passed, f"{' and '.join(limits)}: {'passed' if passed else 'FAILED'}"


def run(words: Sequence[str]) -> int:
    """Validate as `words` say, and return the exit code."""
    parser = command("validate", _DESCRIPTION, _ENDING)
    parser.add_argument("golden", type=existing, metavar="GOLDEN", help="the data set, an .npz file")
    parser.add_argument(
        "--url", required=True, type=_base_url, help="base URL of the server, as in http://host:8080"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="name of the model on that server")
    parser.add_argument("--metric", type=_metric, help=f"the metric that has bounds: {', '.join(Metric)}")
    parser.add_argument("--min", type=number, metavar="X", help="the least value of --metric that passes")
    parser.add_argument("--max", type=number, metavar="X", help="the largest value of --metric that passes")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    parser.add_argument(
        "--timeout", type=number, default=60, metavar="SECONDS", help="how long all of it may take (60)"
    )
    given = parser.parse_args(words)
    if given.metric is None and (given.min is not None or given.max is not None):
        parser.error("argument --min, --max: are bounds of a metric; say which with --metric")
    if given.timeout <= 0:
        parser.error("argument --timeout: must be more than 0 seconds")
    logging.disable(logging.WARNING)  # what is tried again is told in our own words
    try:
        return _validate(given)
    except LoadError as error:
        blamed = error.reason is FailureReason.VALIDATION_FAILED
        refuse("validate", error.message, REFUSED if blamed else NOT_DONE)


def _validate(given: argparse.Namespace) -> int:
    last = "starting"

    def note(message: str) -> None:
        nonlocal last
        if message != last and not message.startswith("asking "):
            tell(f"{message}; it is asked again for {given.timeout:g} s in all")
        last = message

    def give_up() -> None:
        tell(
            f"pilothouse-runtime validate: not done within {given.timeout:g} s; the last that happened: {last}"
        )
        exit_now(NOT_DONE)  # a read of the main thread may last for ever

    timer = threading.Timer(given.timeout, give_up)
    timer.daemon = True
    timer.start()
    golden = read_golden(LocalFile(given.golden), needs_outputs=True)
    revision = Revision(given.model, given.url, given.model, FailureReason.VALIDATION_FAILED, note)
    size = revision.meet() or batch_rows(golden)
    tallies = {metric: Tally(metric) for metric in Metric}
    problems: dict[Metric, str] = {}
    for answers, expected in answered(golden, revision, size):
        for metric, tally in tallies.items():
            if metric not in problems:
                try:
                    tally.add(answers, expected)
                except MismatchError as error:
                    problems[metric] = str(error)
    timer.cancel()
    if len(problems) == len(tallies):
        raise revision.wrong("; ".join(dict.fromkeys(problems.values())))
    bound = _Bound(given.metric, given.min, given.max)
    rows = [_result(metric, tally, problems.get(metric, ""), bound) for metric, tally in tallies.items()]
    if given.json:
        show(json.dumps(_document(given, golden.rows, list(golden.outputs), rows), indent=2))
    else:
        show(f"{given.model} at {given.url}, {golden.rows} rows, outputs {', '.join(golden.outputs)}")
        for row in rows:
            value = "-" if row["value"] is None else f"{row['value']:.6g}"
            show(f"{row['metric']:<17} {value:<12} {row['message']}".rstrip())
    return DONE if _passed(rows) else REFUSED


def _passed(rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(row["passed"] is not False for row in rows)


def _result(metric: Metric, tally: Tally, problem: str, bound: _Bound) -> dict[str, Any]:
    """Return what came of a metric; one that cannot be computed has failed only where it is the one asked for."""
    if problem:
        asked = metric is bound.metric
        message = f"FAILED, it cannot be computed: {problem}" if asked else problem
        return {"metric": metric, "value": None, "passed": False if asked else None, "message": message}
    value = tally.value
    passed, message = bound.verdict(metric, value)
    if tally.flaw:
        passed, message = False, tally.flaw
    return {
        "metric": metric,
        "value": None if math.isnan(value) else value,
        "passed": passed,
        "message": message,
    }


def _document(given: argparse.Namespace, rows: int, outputs: list[str], results: list[dict[str, Any]]) -> Any:
    return {
        "model": given.model,
        "url": given.url,
        "rows": rows,
        "outputs": outputs,
        "passed": _passed(results),
        "metrics": results,
    }


def _metric(text: str) -> Metric:
    try:
        return Metric(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(Metric)}") from None


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be the base URL of a server, as in http://localhost:8080"
        )
    return text.rstrip("/")
