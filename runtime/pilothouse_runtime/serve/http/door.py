"""Accepting from a socket from which other processes accept too, so that each has about as many connections.

The kernel wakes all that wait for a connection, and who is quickest would get nearly all of them: the one that has
just had the last. So a process that has more than another gives way for some milliseconds before it takes one; if
nobody has come by then, the others are busy.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger(__name__)

_GIVE_WAY: Final = 0.001  # seconds, for each connection that one has more than another
_LONGEST: Final = 0.005
_TROUBLE: Final = 0.1  # seconds to wait after an error such as too many open files


class Crowd(Protocol):
    """How many connections each of the processes has."""

    def tell(self, connections: int) -> None:
        """Tell the others how many this one has."""

    def fewest(self) -> int:
        """Return the smallest number of all."""


class Door:
    """Accepts connections, one in a turn of the loop, until it is closed.

    Args:
        make: returns the protocol of a new connection.
        count: returns the connections of this process.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
        crowd: Crowd,
        count: Callable[[], int],
    ) -> None:
        self._listener = listener
        self._make = make
        self._crowd = crowd
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        self._wait()

    def close(self) -> None:
        """Accept nothing any more."""
        if self._timer is None:
            self._loop.remove_reader(self._listener)
        else:
            self._timer.cancel()
        self._listener.close()

    async def wait_closed(self) -> None:
        """Return when all that was accepted has become a connection."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _wait(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listener, self._knocked)

    def _knocked(self) -> None:
        ahead = self._count() + len(self._opening) - self._crowd.fewest()
        if ahead <= 0:
            self._take()
        else:
            self._pause(min(ahead * _GIVE_WAY, _LONGEST), self._take_late)

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener)
        self._timer = self._loop.call_later(seconds, then)

    def _take_late(self) -> None:
        self._wait()
        self._take()

    def _take(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another one was quicker, or the client has left
        except OSError as error:
            log.error("cannot accept a connection: %s", error.strerror)  # noqa: TRY400 - a trace says no more
            self._pause(_TROUBLE, self._wait)
            return
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._make, accepted))
        self._opening.add(task)
        task.add_done_callback(self._opened)
        self._crowd.tell(self._count() + len(self._opening))

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("a connection ended before it began: %s", error)
