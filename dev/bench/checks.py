"""Asks a server rows whose answers are known from torch itself, and compares."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from dev.bench.bodies import Array, Form, read, write

# Sums are taken in another order when rows share a batch, and TorchScript folds the normalisation into convolutions.
_RELATIVE: Final = 1e-3
_ABSOLUTE: Final = 1e-4
_AT_ONCE: Final = 8
_PATIENCE: Final = 60  # seconds for one answer


class WrongAnswerError(Exception):
    """An answer with another status than 200, or other numbers than torch's."""


@dataclass(frozen=True)
class Questions:
    """Rows of input, what torch answers to each, and how many bytes of weights the model has."""

    rows: Array
    answers: Array
    weights: int

    @staticmethod
    def load(file: Path) -> Questions:
        """Read what `dev.bench.prepare` has written."""
        with np.load(file) as arrays:
            return Questions(arrays["rows"], arrays["answers"], int(arrays["weights"]))

    def ask_one(self, port: int, path: str, form: Form, which: int = 0) -> None:
        """Send one row alone.

        Raises:
            OSError: there was no answer.
            WrongAnswerError: it is not torch's.
        """
        body = write(self.rows[which : which + 1], form)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
        try:
            connection.request("POST", path, body.content, dict(body.headers))
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            raise WrongAnswerError(f"no HTTP: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise WrongAnswerError(f"{response.status}: {content[:300]!r}")
        try:
            numbers = read(content, dict(response.getheaders()), form)
        except (ValueError, KeyError, TypeError) as error:
            raise WrongAnswerError(f"not to be read: {error}: {content[:200]!r}") from error
        wanted = self.answers[which].ravel()
        if not same(numbers, wanted):
            raise WrongAnswerError(f"torch says {wanted[:4]}..., the server {numbers[:4]}...")

    def ask_all(self, port: int, path: str, form: Form) -> None:
        """Send all rows, several at once, so that rows mixed up within a batch are noticed; raises like `ask_one`."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda which: self.ask_one(port, path, form, which), range(len(self.rows))))


def same(numbers: Array, wanted: Array) -> bool:
    """Whether an answer is torch's, up to the order in which sums are taken."""
    return numbers.shape == wanted.shape and bool(np.allclose(numbers, wanted, _RELATIVE, _ABSOLUTE))
