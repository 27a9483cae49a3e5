"""A way to a server that can be cut: what is behind it is as good as away then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.kubectl import Kubectl


class Proxy:
    """Forwards TCP connections from a port of 127.0.0.1 to one server."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        """Listen; on the same port each time."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse new connections and reset those there are."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            their_reader, their_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        self._open.add(their_writer)
        await asyncio.gather(_copy(reader, their_writer), _copy(their_reader, writer))
        self._open -= {writer, their_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def cuttable(kubeconfig: Path, folder: Path) -> AsyncIterator[tuple[Proxy, Path]]:
    """Give a way to the API server that can be cut, and a kubeconfig (written into `folder`) that leads there."""
    path = folder / "kubeconfig"
    path.write_text(Kubectl(kubeconfig)("config", "view", "--raw", "--minify", "--flatten"))
    own = Kubectl(path)
    name, server = own(
        "config", "view", "--output=jsonpath={.clusters[0].name} {.clusters[0].cluster.server}"
    ).split()
    parts = urlsplit(server)
    assert parts.hostname is not None
    proxy = Proxy(parts.hostname, parts.port or 443)
    await proxy.start()
    # The server's certificate is not for this way: nothing is at stake here.
    own("config", "unset", f"clusters.{name}.certificate-authority-data")
    own(
        "config",
        "set-cluster",
        name,
        f"--server=https://127.0.0.1:{proxy.port}",
        "--insecure-skip-tls-verify=true",
    )
    try:
        yield proxy, path
    finally:
        await proxy.cut()
