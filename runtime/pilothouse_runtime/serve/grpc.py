"""The Open Inference Protocol v2 over gRPC, in the event loop that serves HTTP too.

Importing this takes a tenth of a second and some 15 MB: import it where gRPC is wanted, and when the HTTP port is open.
Messages are bytes to gRPC and read here, so that what is no message is the client's fault (INVALID_ARGUMENT) and not
the server's. Methods that the protocol does not have are answered by gRPC itself: UNIMPLEMENTED.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final

# Its C core writes lines of its own to standard error, where every line is JSON.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc.aio

from pilothouse_runtime.codecs import grpc_messages as messages
from pilothouse_runtime.codecs.grpc_schema import HEALTH_SERVICE, SERVICE
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.grpc_errors import Context, guarded
from pilothouse_runtime.serve.grpc_health import Health
from pilothouse_runtime.serve.grpc_infer import Bodies, ModelInfer

Reply = Callable[[bytes], bytes]

_RECEIVE_TIMEOUT: Final = 300.0  # seconds for all of a request to come


class GrpcServer:
    """The gRPC front (`lifecycle.Front`).

    Args:
        bodies: what requests of all fronts hold in memory together.
        shares_port: other processes listen on the same port.
        receive_timeout: seconds for which a call may be open before all of its request has come.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        plane: DataPlane,
        readiness: Readiness,
        settings: Settings,
        bodies: Bodies,
        *,
        shares_port: bool = False,
        receive_timeout: float = _RECEIVE_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plane = plane
        self._shares_port = shares_port
        self._readiness = readiness
        self._settings = settings
        self._health = Health(readiness)
        self._infer = ModelInfer(plane, bodies, settings.max_request_bytes, receive_timeout, clock)
        self._server: Any = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port: another than asked where that was 0; the empty host means all addresses.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        age = self._settings.max_connection_age
        options = [
            ("grpc.max_receive_message_length", self._settings.max_request_bytes),
            # Where it is on, a second server may listen on the same port, and gets a part of the requests.
            ("grpc.so_reuseport", int(self._shares_port)),
            *([("grpc.max_connection_age_ms", round(age * 1000))] if age else []),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((_Methods(self._methods()),))
        address = f"{_literal(host)}:{port}"
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"{address} is taken, or not this machine's") from error
        await server.start()
        self._server = server
        return bound

    def drain(self) -> None:
        """Tell who watches its health that it is not serving, and let them go."""
        self._health.stop()

    async def stop(self, patience: float) -> None:
        """Take no new requests, and wait so many seconds for those in flight; clients are told to go elsewhere."""
        if self._server is not None:
            self.drain()  # what ends without draining has watchers too, who would be waited for
            await self._server.stop(patience)

    def _methods(self) -> dict[str, Any]:
        """Return what handles each method, by its path."""
        replies: dict[str, Reply] = {
            "ServerLive": lambda body: messages.encode_flag(True),
            "ServerReady": lambda body: messages.encode_flag(self._readiness.state.ready),
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda body: messages.encode_server_metadata(self._plane.server_metadata()),
            "ModelMetadata": self._model_metadata,
        }
        table = {f"/{SERVICE}/{name}": _unary(reply) for name, reply in replies.items()}
        # To the wire it is a call with one message; read by us, it begins for metrics when its head has come.
        table[self._infer.path] = grpc.stream_unary_rpc_method_handler(self._infer.handle)
        table[f"/{HEALTH_SERVICE}/Check"] = _unary(self._health.check)
        table[f"/{HEALTH_SERVICE}/Watch"] = grpc.unary_stream_rpc_method_handler(self._health.watch)
        return table

    def _model_ready(self, body: bytes) -> bytes:
        return messages.encode_flag(self._plane.model_ready(*messages.decode_model(body)))

    def _model_metadata(self, body: bytes) -> bytes:
        return messages.encode_model_metadata(self._plane.model_metadata(*messages.decode_model(body)))


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._table.get(handler_call_details.method)


def _unary(reply: Reply) -> Any:
    """Return what handles a method that is answered at once."""

    async def handle(body: bytes, context: Context) -> bytes:
        return await guarded(context, lambda: reply(body))

    return grpc.unary_unary_rpc_method_handler(handle)


def _literal(host: str) -> str:
    """Return a host as an address has it before its port."""
    if not host:
        return "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - as for HTTP
    return f"[{host}]" if ":" in host else host
