"""What the kernel is asked for that Python has no call for."""

from __future__ import annotations

import errno
import os
import signal
import socket


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that holds a port, for others of this user to listen on together; 0 takes a free one.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    dual = not host and socket.has_dualstack_ipv6()
    holder = socket.socket(socket.AF_INET6 if dual or ":" in host else socket.AF_INET)
    try:
        if dual:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Who bound it before us may have left connections that still end, but nobody may listen on it.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, port))
        # Only now: bound with this option, it could not be told from a port that another server listens on.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        holder.close()
        raise OSError(error.errno or errno.EADDRINUSE, error.strerror) from error
    return holder


def how_it_ended(status: int) -> str:
    """Say for people how a process ended, by its wait status."""
    return ending(os.waitstatus_to_exitcode(status))


def ending(code: int) -> str:
    """Say for people how a process ended, by its exit code, which is negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
