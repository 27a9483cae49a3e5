"""Explanations over HTTP: apart from inference requests, so that these are measured as if nobody asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from pilothouse_runtime.codecs import explanations
from pilothouse_runtime.codecs.compression import check_encoding, decompress
from pilothouse_runtime.core.errors import Code, RequestError, invalid
from pilothouse_runtime.core.explaining import Explanation, Options
from pilothouse_runtime.core.requests import InferRequest, InferResponse, OutputTensor, arrange_inputs
from pilothouse_runtime.core.tensors import Tensor
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.http.exchange import JSON, Body, Exchange
from pilothouse_runtime.serve.infer import PROXY_TIMEOUT, milliseconds
from pilothouse_runtime.serve.metrics import Metrics

log = logging.getLogger(__name__)

_BINARY: Final = b"application/octet-stream"
Answer = tuple[list[Body], bytes, bytes]  # pieces of the body, their content type, further headers
Handler = Callable[[Exchange], None]
Work = Callable[["Explains", Exchange, Body], Awaitable[Answer]]


class Explains(Protocol):
    """What explains (`engine.explainer.Explainer`)."""

    async def explain(
        self, inputs: Sequence[Tensor], options: Options, deadline: float | None = None
    ) -> Explanation:
        """Return the explanation. Raises RequestError."""


class Explaining:
    """Takes requests for explanations, once `attach` has given it what makes them.

    Args:
        version: the model's, for answers.
        max_body: bytes of a body, also once it is decompressed.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        plane: DataPlane,
        metrics: Metrics,
        version: str,
        max_body: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plane = plane
        self._metrics = metrics
        self._version = version
        self._max_body = max_body
        self._clock = clock
        self._explainer: Explains | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self, explainer: Explains) -> None:
        """Explain from now on."""
        self._explainer = explainer

    def admit(self, exchange: Exchange, names: dict[str, str]) -> Handler:
        """Take a request by its head; of version 1, there is no name of a version. Raises RequestError."""
        self._plane.check_servable(names["model"], names.get("version"))
        if self._explainer is None:
            raise RequestError(
                Code.NOT_FOUND, "explanations are switched off here; runtime.explain: true switches them on"
            )
        if b"content-encoding" in exchange.headers:
            check_encoding((exchange.header(b"content-encoding") or "").strip().lower())
        work = self._version_2 if "version" in names else self._version_1
        return partial(self._begin, self._explainer, work, self._clock())

    def _begin(self, explainer: Explains, work: Work, started: float, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(explainer, work, started, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        exchange.on_gone = partial(_cancel, task)

    async def _answer(self, explainer: Explains, work: Work, started: float, exchange: Exchange) -> None:
        code = 200
        try:
            exchange.answer(200, *await work(explainer, exchange, await self._body(exchange)))
        except RequestError as error:
            code = error.code
            exchange.refuse(error)
        except asyncio.CancelledError:
            code = Code.CANCELLED
        except Exception:
            log.exception("%s %s failed in the server", exchange.method, exchange.path)
            code = Code.INTERNAL
            told = "the server failed on this explanation; its log says why"
            exchange.refuse(RequestError(Code.INTERNAL, told))
        self._metrics.explained(code, self._clock() - started)

    async def _body(self, exchange: Exchange) -> Body:
        encoding = (exchange.header(b"content-encoding") or "identity").strip().lower()
        if encoding == "identity":
            return exchange.body
        body = await asyncio.to_thread(decompress, exchange.body, encoding, self._max_body)
        exchange.charge(len(body))
        return body

    async def _version_2(self, explainer: Explains, exchange: Exchange, body: Body) -> Answer:
        request, options = explanations.decode_v2(body, exchange.header(b"inference-header-content-length"))
        response, explanation = await self._explained(explainer, exchange, request, options)
        pieces, length = explanations.encode_v2(response, explanation)
        if length is None:
            return pieces, JSON, b""
        return pieces, _BINARY, b"inference-header-content-length: %d\r\n" % length

    async def _version_1(self, explainer: Explains, exchange: Exchange, body: Body) -> Answer:
        request, rows, options = explanations.decode_v1(body, self._plane.signature())
        response, explanation = await self._explained(explainer, exchange, request, options)
        return [explanations.encode_v1(response, rows, explanation)], JSON, b""

    async def _explained(
        self, explainer: Explains, exchange: Exchange, request: InferRequest, options: Options
    ) -> tuple[InferResponse, Explanation]:
        if request.outputs:
            raise invalid(
                "outputs: every floating-point input gets its attribution; parameters.output names what of"
            )
        inputs = arrange_inputs(request.inputs, self._plane.signature())
        waits = [request.timeout] if request.timeout is not None else []
        if PROXY_TIMEOUT in exchange.headers:
            waits.append(milliseconds(exchange.headers[PROXY_TIMEOUT]))
        deadline = self._clock() + min(waits) if waits else None
        explanation = await explainer.explain(inputs, options, deadline)
        outputs = tuple(OutputTensor(tensor, request.binary_outputs) for tensor in explanation.attributions)
        return InferResponse(self._plane.model_name, self._version, outputs, request.id), explanation


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
