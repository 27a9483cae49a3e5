"""The protocols over HTTP: routes, bodies and headers, and nothing that another front would need too."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pilothouse_runtime import contract
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.states import Readiness, ready_body
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.explain import Explaining
from pilothouse_runtime.serve.http.exchange import Exchange
from pilothouse_runtime.serve.infer import Inference
from pilothouse_runtime.serve.metrics import Metrics

log = logging.getLogger(__name__)

Handler = Callable[[Exchange], None]
Admit = Callable[[Exchange, dict[str, str]], Handler]

_KNOWN_PATHS: Final = 512  # that are kept; more are looked up each time
_LONG_PATH: Final = 512  # characters; longer ones are not kept


class Rest:
    """Finds what handles a request; `admit` is what the HTTP server asks.

    Args:
        schema: the OpenAPI document that describes all of this.
        explaining: takes requests for explanations.
    """

    def __init__(
        self,
        plane: DataPlane,
        readiness: Readiness,
        metrics: Metrics,
        max_body: int,
        schema: bytes,
        explaining: Explaining,
    ) -> None:
        self._plane = plane
        self._explaining = explaining
        self._readiness = readiness
        self._metrics = metrics
        self._schema = schema
        self._inference = Inference(plane, max_body)
        self._known: dict[tuple[str, str], Callable[[Exchange], Handler]] = {}
        self._routes = self._table()

    def admit(self, exchange: Exchange) -> Handler:
        """Return what handles a request, by its method and path.

        Raises:
            RequestError: there is nothing at that path, or it is not for now.
        """
        key = (exchange.method, exchange.path)
        found = self._known.get(key)
        if found is None:
            found = self._find(*key)
            if len(self._known) < _KNOWN_PATHS and len(exchange.path) < _LONG_PATH:
                self._known[key] = found
        return found(exchange)

    def _table(self) -> list[tuple[re.Pattern[str], dict[str, Admit]]]:
        get = self._get
        model = r"/v2/models/(?P<model>[^/]+)(/versions/(?P<version>.+))?"  # a version may hold slashes
        table: dict[str, dict[str, Admit]] = {
            r"/v2/?": get(lambda **_: (self._plane.server_metadata(), 200)),
            contract.LIVE_PATH: get(lambda **_: ({"live": True}, 200)),
            contract.READY_PATH: get(self._ready),
            contract.METRICS_PATH: {"GET": lambda exchange, names: self._page},
            r"/openapi\.json": {"GET": lambda exchange, names: self._document},
            f"{model}/infer": {"POST": self._inference.admit},
            f"{model}/explain": {"POST": self._explaining.admit},
            f"{model}/ready": get(self._model_ready),
            model: get(lambda model, version: (self._plane.model_metadata(model, version), 200)),
            r"/v1/models": get(lambda **_: ({"models": [self._plane.model_name]}, 200)),
            r"/v1/models/(?P<model>[^/]+):predict": {"POST": self._inference.admit_v1},
            r"/v1/models/(?P<model>[^/]+):explain": {"POST": self._explaining.admit},
            r"/v1/models/(?P<model>[^/:]+)": get(self._v1_ready),
        }
        return [(re.compile(path), methods) for path, methods in table.items()]

    def _find(self, method: str, path: str) -> Callable[[Exchange], Handler]:
        for pattern, methods in self._routes:
            if found := pattern.fullmatch(path):
                admit = methods.get("GET" if method == "HEAD" else method)
                if admit is None:
                    return partial(_other_method, allowed=", ".join(methods))
                return partial(admit, names=found.groupdict())  # type: ignore[call-arg] # by name
        raise RequestError(
            Code.NOT_FOUND, f"{method} {path}: there is nothing here; see GET /v2 and GET /openapi.json"
        )

    def _get(self, tell: Callable[..., tuple[Any, int]]) -> dict[str, Admit]:
        """Return the route of a JSON document that `tell` makes, with its HTTP status."""

        def answer(exchange: Exchange, names: dict[str, str]) -> None:
            try:
                content, status = tell(**names)
            except RequestError as error:
                exchange.refuse(error)
            else:
                exchange.answer_json(content, status)

        return {"GET": lambda exchange, names: partial(answer, names=names)}

    def _ready(self) -> tuple[Any, int]:
        state = self._readiness.state
        return ready_body(self._readiness), 200 if state.ready else Code.UNAVAILABLE

    def _model_ready(self, model: str, version: str | None) -> tuple[Any, int]:
        ready = self._plane.model_ready(model, version)
        return {"name": model, "ready": ready}, 200 if ready else Code.UNAVAILABLE

    def _v1_ready(self, model: str) -> tuple[Any, int]:
        return self._model_ready(model, None)

    def _page(self, exchange: Exchange) -> None:
        body, content_type = self._metrics.render(exchange.header(b"accept") or "")
        exchange.answer(200, [body], content_type.encode())

    def _document(self, exchange: Exchange) -> None:
        exchange.answer(200, [self._schema])


def _other_method(exchange: Exchange, allowed: str) -> Handler:
    told = f"{exchange.method} {exchange.path}: Method Not Allowed; it takes {allowed}"
    extra = b"allow: %b\r\n" % allowed.encode()
    return lambda asked: _answer_status(asked, Code.METHOD_NOT_ALLOWED, told, extra)


def _answer_status(exchange: Exchange, status: int, told: str, extra: bytes) -> None:
    exchange.answer_json({"error": told}, status, extra)
