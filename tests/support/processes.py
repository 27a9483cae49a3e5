"""What Linux tells of other processes: their children, memory and connections."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_ESTABLISHED: Final = "01"


def descendants(pid: int) -> list[int]:
    """Return a process and all that came of it: parents first."""
    children = (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    return [pid, *(found for child in children for found in descendants(int(child)))]


def ended(pid: int) -> bool:
    """Say whether a process runs no more; one that nobody has waited for yet does not run either."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def private_bytes(pid: int) -> int:
    """Return the memory of a process that it shares with no other."""
    lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    sizes = {words[0]: int(words[1]) for words in map(str.split, lines)}
    return 1024 * (sizes["Private_Dirty:"] + sizes["Private_Clean:"])


def anonymous_bytes(pid: int) -> int:
    """Return the memory of a process that is no page of any file."""
    lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def served_by(pid: int, port: int) -> int:
    """Return how many clients have connections to a local IPv4 port that this process holds the other end of."""
    # The kernel's table is no snapshot: while connections come and go, some rows are told twice and others not at all.
    return max(len(_serving(pid, port)) for _ in range(5))


def _serving(pid: int, port: int) -> set[str]:
    inodes = set()
    for link in (_PROC / str(pid) / "fd").iterdir():
        try:
            inodes.add(str(link.readlink()))
        except OSError:
            continue  # it was closed meanwhile
    local = f"{socket.htonl(0x7F000001):08X}:{port:04X}"
    rows = [line.split() for line in (_PROC / "net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[1] == local and row[3] == _ESTABLISHED} & inodes


def mapped_bytes(file: Path, pid: int | str = "self") -> dict[str, int]:
    """Return what a process has of a file in its memory: sums over its mappings, by the names that smaps gives them."""
    sums: dict[str, int] = {}
    inside = False
    for line in (_PROC / str(pid) / "smaps").read_text().splitlines():
        first, *rest = line.split(maxsplit=5)
        if not first.endswith(":"):
            inside = rest[4:] == [str(file.resolve())]
        elif inside and rest[-1:] == ["kB"]:
            sums[first[:-1]] = sums.get(first[:-1], 0) + 1024 * int(rest[0])
    return sums
