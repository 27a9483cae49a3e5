"""CPU, memory and files of all processes of one server, as `process_*` says them of one.

Source: Linux, proc(5) on /proc/PID/stat. All values come from files that the kernel makes up at once: shares of pages
(PSS) would be the better measure of memory, but cost a walk through all of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pilothouse_runtime import contract
from pilothouse_runtime.engine.limits import memory_used
from pilothouse_runtime.serve.metrics import Cells

_PROC: Final = Path("/proc")
# Fields of /proc/PID/stat, counted from the one after the name, which may hold spaces.
_UTIME, _STIME, _CUTIME, _CSTIME, _RSS = 11, 12, 13, 14, 21
_RESTARTS, _SECONDS, _STARTED = range(3)


class Processes(Collector):
    """Shows sums over the processes whose ids are in cells.

    Args:
        pids: 0 where there is no process.
        cells: shared by all of them, so many as `CELLS`.
    """

    CELLS: Final = 3

    def __init__(self, pids: Cells, cells: Cells) -> None:
        self._pids = pids
        self._cells = cells
        cells[_STARTED] = time.time()

    def restarted(self) -> None:
        """Count that a worker was lost."""
        self._cells[_RESTARTS] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        seconds = 0.0
        resident = files = 0
        for pid in [int(pid) for pid in self._pids if pid]:
            folder = _PROC / str(pid)
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                files += sum(1 for _ in (folder / "fd").iterdir())
            except OSError:
                continue  # it has just ended
            # Those that ended are in the times of their parent's children.
            seconds += sum(int(fields[index]) for index in (_UTIME, _STIME, _CUTIME, _CSTIME))
            resident += int(fields[_RSS])
        # One that ends between two readings would be missing in one page.
        self._cells[_SECONDS] = max(self._cells[_SECONDS], seconds / os.sysconf("SC_CLK_TCK"))
        yield CounterMetricFamily(
            "process_cpu_seconds_total",
            "User and system CPU time of all processes in seconds.",
            value=self._cells[_SECONDS],
        )
        gauges = {
            "process_resident_memory_bytes": (
                "Resident memory of all processes in bytes; what they share is counted for each.",
                resident * os.sysconf("SC_PAGE_SIZE"),
            ),
            contract.METRIC_MEMORY_USED: (
                "Bytes that the container uses; what processes share is counted once.",
                memory_used(),
            ),
            "process_open_fds": ("Open file descriptors of all processes.", files),
            "process_start_time_seconds": ("Start in seconds since the Unix epoch.", self._cells[_STARTED]),
        }
        for name, (help_text, value) in gauges.items():
            yield GaugeMetricFamily(name, help_text, value=value)
        yield CounterMetricFamily(
            contract.METRIC_WORKER_RESTARTS,
            "Workers that ended and were started anew.",
            value=self._cells[_RESTARTS],
        )
