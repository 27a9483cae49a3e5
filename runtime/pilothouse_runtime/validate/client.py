"""Asks one revision for its answers, over the Open Inference Protocol v2, patiently while it cannot be reached."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

import numpy as np
import orjson
import urllib3
from urllib3.exceptions import HTTPError

from pilothouse_runtime.codecs.oip import HEADER_LENGTH, decode_response, encode_request
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import Code, LoadError, RequestError
from pilothouse_runtime.core.requests import InferRequest, RequestedOutput
from pilothouse_runtime.core.signature import SignatureError, parse_signature
from pilothouse_runtime.core.tensors import ANY, Array, Datatype, Tensor, datatype_of
from pilothouse_runtime.engine.download import in_words

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT: Final = 5.0  # seconds; an answer may take as long as the whole validation
_FIRST_PAUSE: Final = 0.2  # seconds between attempts, then doubled
_LONGEST_PAUSE: Final = 2.0
_LATER: Final = (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)


class Revision:
    """One revision and where it answers.

    Args:
        who: what messages call it.
        blamed: the reason with which a validation ends where this revision answers wrongly. ValidationFailed is
            final; with another reason it is worth another try.
        tell: is given, for people, what is going on.
    """

    def __init__(
        self, who: str, url: str, model: str, blamed: FailureReason, tell: Callable[[str], None]
    ) -> None:
        self._who = who
        self._url = f"{url}/v2/models/{quote(model, safe='')}"
        self._blamed = blamed
        self._tell = tell
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=None))
        self._fixed: int | None = None

    def meet(self) -> int | None:
        """Wait until the revision answers, and return the number of rows that it takes at once; None: any.

        Raises:
            LoadError: it answers with an error.
        """
        self._tell(f"asking {self._who} at {self._url}")
        try:
            signature = parse_signature(self._ask("GET", "", b"", {}).data)
        except SignatureError as error:
            raise self.wrong(f"its metadata is not as the protocol has it: {error}") from None
        fixed = {spec.shape[0] for spec in signature.inputs if spec.shape} - {ANY, 0}
        if len(fixed) > 1:
            raise self.wrong(
                f"its inputs take different numbers of rows: {', '.join(map(str, signature.inputs))}"
            )
        self._fixed = fixed.pop() if fixed else None
        return self._fixed

    def answers(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Return the outputs for some rows of inputs, in batches as the revision takes them.

        Args:
            inputs: arrays by name; the first dimension of all is rows.
            outputs: names of the outputs wanted; none: all.
        Raises:
            LoadError: it answers with an error, or with something else than one answer for each row.
        """
        rows = len(next(iter(inputs.values())))
        size = self._fixed or rows
        parts = []
        for start in range(0, rows, size):
            # Where the last batch is not full, its last row is sent again and again.
            index = np.arange(start, start + size).clip(max=rows - 1)
            parts.append(self._infer({name: array[index] for name, array in inputs.items()}, outputs, size))
        try:
            return {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}
        except (KeyError, ValueError) as error:
            raise self.wrong(f"its answers have different outputs from batch to batch: {error}") from None

    def wrong(self, message: str) -> LoadError:
        """Return the failure of a revision that does not answer the data set as it should."""
        permanent = self._blamed is FailureReason.VALIDATION_FAILED
        return LoadError(self._blamed, f"{self._who}: {message}", permanent=permanent)

    def _infer(self, inputs: Mapping[str, Array], outputs: Sequence[str], rows: int) -> dict[str, Array]:
        tensors = tuple(Tensor(name, datatype_of(array.dtype), array) for name, array in inputs.items())
        wanted = tuple(RequestedOutput(name, binary=True) for name in outputs)
        body, length = encode_request(InferRequest(tensors, wanted, binary_outputs=True))
        response = self._ask("POST", "/infer", body, {HEADER_LENGTH: str(length)})
        try:
            answer = decode_response(response.data, response.headers.get(HEADER_LENGTH))
        except RequestError as error:
            raise self.wrong(f"its answer is not as the protocol has it: {error.message}") from None
        arrays = {}
        for tensor in (output.tensor for output in answer.outputs):
            if tensor.datatype is Datatype.BYTES:
                raise self.wrong(f"output {tensor.name!r} is BYTES, which cannot be compared")
            if tensor.array.shape[:1] != (rows,):
                raise self.wrong(
                    f"output {tensor.name!r} has the shape {list(tensor.array.shape)} for {rows} rows; its first"
                    " dimension should be the rows"
                )
            arrays[tensor.name] = tensor.array
        return arrays

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Return a good answer, however long it takes until there is one."""
        pause = _FIRST_PAUSE
        while True:
            try:
                response = self._pool.request(
                    method, self._url + path, body=body or None, headers=headers, retries=False
                )
            except HTTPError as error:
                problem = in_words(error, _CONNECT_TIMEOUT)
            else:
                if response.status == 200:
                    return response
                problem = f"it answered {response.status}{_told(response.data)}"
                if response.status not in _LATER:
                    raise self.wrong(problem)
            told = f"{self._who} at {self._url}{path}: {problem}"
            log.warning("%s", told)
            self._tell(told)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _told(body: bytes) -> str:
    """Return what an error's body says, as the protocol writes it; other bodies are nobody's business."""
    try:
        return f": {orjson.loads(body)['error']}"
    except (ValueError, KeyError, TypeError):
        return ""
