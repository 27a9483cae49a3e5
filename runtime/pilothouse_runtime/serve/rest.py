"""The protocol over HTTP: routes, bodies and headers, and nothing that another front would need too."""

from __future__ import annotations

import logging
import time
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse_runtime import contract
from pilothouse_runtime.codecs.oip import HEADER_LENGTH, decode_request, encode_response
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.serve.closing import EndConnections
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.metrics import Metrics

log = logging.getLogger(__name__)


def build_app(plane: DataPlane, readiness: Readiness, metrics: Metrics, settings: Settings) -> Starlette:
    """Return the ASGI application; it holds no state but what it is given, and the ages of its connections."""
    front = _Front(plane, readiness, metrics, settings.max_request_bytes)
    routes = [
        Route("/v2", front.server_metadata),
        Route(contract.LIVE_PATH, front.live),
        Route(contract.READY_PATH, front.ready),
        Route(contract.METRICS_PATH, front.metrics),
    ]
    # A version is free text and may hold slashes.
    for base in ("/v2/models/{model}/versions/{version:path}", "/v2/models/{model}"):
        routes += [
            Route(f"{base}/infer", front.infer, methods=["POST"]),
            Route(f"{base}/ready", front.model_ready),
            Route(base, front.model_metadata),
        ]
    app = Starlette(
        routes=routes,
        exception_handlers={RequestError: _refused, HTTPException: _no_route, Exception: _crashed},
    )
    app.add_middleware(EndConnections, readiness=readiness, max_age=settings.max_connection_age)
    return app


class _Front:
    def __init__(
        self, plane: DataPlane, readiness: Readiness, metrics: Metrics, max_request_bytes: int
    ) -> None:
        self._plane = plane
        self._readiness = readiness
        self._metrics = metrics
        self._max_request_bytes = max_request_bytes

    async def server_metadata(self, request: Request) -> Response:
        return _json(self._plane.server_metadata())

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        state = self._readiness.state
        body = {"ready": state.ready, "state": state.phase, "message": state.message}
        return _json(body, 200 if state.ready else Code.UNAVAILABLE)

    async def metrics(self, request: Request) -> Response:
        body, content_type = self._metrics.render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def model_ready(self, request: Request) -> Response:
        ready = self._plane.model_ready(*_model(request))
        return _json({"ready": ready}, 200 if ready else Code.UNAVAILABLE)

    async def model_metadata(self, request: Request) -> Response:
        return _json(self._plane.model_metadata(*_model(request)))

    async def infer(self, request: Request) -> Response:
        start = time.perf_counter()
        status = int(Code.INTERNAL)
        self._metrics.in_flight.inc()
        try:
            response = await self._infer(request)
            status = response.status_code
        except RequestError as error:
            response = _error(error)
            status = response.status_code
        except ClientDisconnect:
            status = 499  # nobody is left to read an answer; the status is for the metrics only
            return Response(status_code=status)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.in_flight.dec()
            self._metrics.seconds.observe(seconds)
            self._metrics.requests.labels(status).inc()
            if log.isEnabledFor(logging.DEBUG):
                facts = {"method": "POST", "path": request.url.path, "status": status, "seconds": seconds}
                log.debug("answered", extra=facts)
        return response

    async def _infer(self, request: Request) -> Response:
        model, version = _model(request)
        self._plane.check_servable(model, version)
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise RequestError(
                Code.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Encoding: {encoding!r} is not read here; send plain bodies",
            )
        body = await self._body(request)
        decoded = decode_request(body, request.headers.get(HEADER_LENGTH))
        content, header_length = encode_response(await self._plane.infer(model, version, decoded))
        if header_length is None:
            return Response(content, media_type="application/json")
        return Response(
            content, headers={HEADER_LENGTH: str(header_length)}, media_type="application/octet-stream"
        )

    async def _body(self, request: Request) -> bytearray:
        """Return the body, writable so that torch may use it in place."""
        body = bytearray()
        announced = request.headers.get("content-length", "0")
        if int(announced) > self._max_request_bytes:  # the HTTP parser has made sure that it is a number
            raise self._too_large()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_request_bytes:
                raise self._too_large()
        return body

    def _too_large(self) -> RequestError:
        return RequestError(
            Code.TOO_LARGE,
            f"the body is larger than {self._max_request_bytes:,} bytes, the most that this server takes;"
            " send smaller batches, or binary tensors in place of JSON",
        )


def _model(request: Request) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _error(error: RequestError) -> Response:
    response = _json({"error": error.message}, error.code)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 - it is registered for this class
    return _error(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this class
    told = f"{request.method} {request.url.path}: {error.detail}; see GET /v2 for what this server is"
    response = _json({"error": told}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _crashed(request: Request, error: Exception) -> Response:
    return _json({"error": "the server failed on this request; its log says why"}, Code.INTERNAL)
