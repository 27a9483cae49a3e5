"""Which requests the model runs next, and how many of them together: a pure policy, with time as an argument.

- Whoever came first goes first; those of the same shape that wait behind may go with it. So nobody starves.
- A model that is free never waits for company that is not to be expected: only when the last batches had several
  requests in them, and then at most `max_delay`, and at most a part of what a run takes.
- More rows at once are not always faster (caches end somewhere): sizes that turned out slower are left alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.predictor import Job

_SMOOTHING: Final = 0.2  # of the newest measurement
_PATIENCE: Final = 0.25  # of a run's seconds are worth waiting for company
_WORTH_A_TIMER: Final = 0.0002  # seconds
_TICK: Final = 0.00002  # seconds; less is not worth another look
_COLD: Final = 0.1  # seconds without a run after which the past says nothing about the load
_BETTER: Final = 0.97  # a size must be so much faster a row to be preferred to a smaller one
_EXPLORE: Final = 32  # one full batch of so many tries another size
_MOST: Final = 8192  # requests that ever wait


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        max_rows: of one run; 1 means one request at a time, whatever its rows. A larger request runs alone.
        max_delay: seconds for which a request may be kept from a free model.
        min_waiting: requests that may always wait; more may where the model does them within `max_wait` seconds.
    """

    max_rows: int = 32
    max_delay: float = 0.002
    min_waiting: int = 128
    max_wait: float = 1.0


class Sizes:
    """Learns how many rows in one run are fastest a row. Sizes are kept in classes: 1, 2, 3-4, 5-8, ..."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._cost: list[float | None] = [None] * (_class(max_rows) + 1)  # seconds a row, by class
        self._runs = 0

    def learn(self, rows: int, seconds: float) -> None:
        """Take in what one run took."""
        index = min(_class(rows), len(self._cost) - 1)
        cost, known = seconds / rows, self._cost[index]
        # A run that was much slower than those before it was disturbed: it counts for little.
        fresh = cost if known is None else min(cost, 4 * known)
        self._cost[index] = fresh if known is None else known + _SMOOTHING * (fresh - known)

    def next(self) -> int:
        """Return the most rows to run now, where more than that wait."""
        if len(self._cost) == 1:
            return 1
        best = self._best()
        self._runs += 1
        if best + 1 < len(self._cost) and self._cost[best + 1] is None:
            return self._rows(best + 1)  # grow until it does not pay any more
        if self._runs % _EXPLORE == 0:
            step = 1 if self._runs // _EXPLORE % 2 else -1
            return self._rows(min(max(best + step, 0), len(self._cost) - 1))
        return self._rows(best)

    def _best(self) -> int:
        best = 0
        for index, cost in enumerate(self._cost):
            lowest = self._cost[best]
            if cost is not None and (lowest is None or cost < _BETTER * lowest):
                best = index
        return best

    def _rows(self, index: int) -> int:
        return int(min(1 << index, self._max_rows))


def _class(rows: int) -> int:
    return (rows - 1).bit_length()


class Queue:
    """Holds what waits for the model, and says what runs next. All times are monotonic seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._groups: dict[Any, deque[Job]] = {}  # by shape; each in order of arrival
        self._sizes = Sizes(limits.max_rows)
        self._waiting = 0
        self._companions = 1.0  # requests in a batch, lately
        self._ended = -math.inf  # when the last run ended
        self.run_seconds = 0.0  # of a run, lately
        self._job_seconds = 0.0  # of a run for each of its requests, lately

    def expect(self, seconds: Mapping[int, float]) -> None:
        """Take what runs of so many rows took before anybody waited for one, in seconds, as first estimates."""
        for rows, taken in seconds.items():
            self._sizes.learn(rows, taken)
        if seconds:
            self.run_seconds = self._job_seconds = seconds[min(seconds)]

    def __len__(self) -> int:
        """How many requests wait."""
        return self._waiting

    def add(self, job: Job, now: float) -> None:
        """Take a job in.

        Raises:
            RequestError: too many wait already, or its deadline has passed.
        """
        if job.deadline is not None and job.deadline <= now:
            raise expired()
        limits = self._limits
        waiting = self._waiting
        if waiting >= limits.min_waiting and waiting >= min(
            _MOST, limits.max_wait / (self._job_seconds or 1)
        ):
            raise RequestError(
                Code.RESOURCE_EXHAUSTED,
                f"{waiting} requests are waiting already; send fewer at once, or add replicas",
                retry_after=max(1, math.ceil(waiting * self._job_seconds)),
            )
        job.arrived = now
        key = job.key = self._key(job)
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = deque((job,))
        else:
            group.append(job)
        self._waiting = waiting + 1

    def _key(self, job: Job) -> Any:
        """Return what jobs must have in common to run together, and note how many rows this one has."""
        if self._limits.max_rows == 1:
            return None
        rows = -1
        key = []
        for tensor in job.inputs:
            shape = tensor.array.shape
            if rows == -1:
                rows = shape[0]
            elif shape[0] != rows:
                return object()  # runs alone: the model will say what is wrong with it
            key.append(shape[1:])
        if not 0 < rows <= self._limits.max_rows:
            job.rows = max(rows, 1)
            return object()
        job.rows = rows
        return tuple(key)

    def drop(self, job: Job) -> None:
        """Take out a job that nobody waits for any more, if it still waits."""
        group = self._groups.get(job.key)
        if group is not None and job in group:
            group.remove(job)
            self._waiting -= 1
            if not group:
                del self._groups[job.key]

    def overdue(self, now: float) -> list[Job]:
        """Take out the jobs whose deadline has passed."""
        late = [
            job
            for group in self._groups.values()
            for job in group
            if job.deadline is not None and job.deadline <= now
        ]
        for job in late:
            self.drop(job)
        return late

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of those that wait, or None."""
        deadlines = [
            job.deadline for group in self._groups.values() for job in group if job.deadline is not None
        ]
        return min(deadlines, default=None)

    def take(self) -> list[Job]:
        """Take out the jobs to run now: all of one shape, at most `max_rows` rows; none where none waits.

        Call `patience` first, which says whether it is better to wait, and `overdue`.
        """
        if not self._groups:
            return []
        group = self._oldest()
        rows_left = self._sizes.next() if len(group) > 1 else self._limits.max_rows
        job = group.popleft()
        jobs = [job]
        if self._limits.max_rows > 1:
            rows_left -= job.rows
            while group and group[0].rows <= rows_left:
                job = group.popleft()
                rows_left -= job.rows
                jobs.append(job)
        if not group:
            del self._groups[job.key]
        self._waiting -= len(jobs)
        return jobs

    def patience(self, now: float) -> float:
        """Return the seconds for which it pays to keep a free model waiting for company; 0 is not at all."""
        limits = self._limits
        longest = min(limits.max_delay, _PATIENCE * self.run_seconds)
        if longest < _WORTH_A_TIMER or limits.max_rows == 1 or not self._groups or now - self._ended > _COLD:
            return 0
        group = self._oldest()
        if self._waiting >= self._companions - 0.5 or sum(job.rows for job in group) >= limits.max_rows:
            return 0
        left = longest - (now - group[0].arrived)
        return left if left > _TICK else 0

    def _oldest(self) -> deque[Job]:
        groups = self._groups
        if len(groups) == 1:
            return next(iter(groups.values()))
        return min(groups.values(), key=lambda group: group[0].arrived)

    def ran(self, jobs: list[Job], seconds: float, now: float) -> None:
        """Take in that a run of these jobs took so long, and ended now."""
        count = len(jobs)
        rows = count if count == 1 else sum(job.rows for job in jobs)
        self._sizes.learn(rows, seconds)
        if now - self._ended > _COLD or not self.run_seconds:
            self._companions, self.run_seconds, self._job_seconds = count, seconds, seconds / count
        else:
            self._companions += _SMOOTHING * (count - self._companions)
            self.run_seconds += _SMOOTHING * (seconds - self.run_seconds)
            self._job_seconds += _SMOOTHING * (seconds / count - self._job_seconds)
        self._ended = now


def expired() -> RequestError:
    """Return the error of a request whose client does not wait any more."""
    return RequestError(
        Code.DEADLINE_EXCEEDED, "the request's deadline passed before the model came to it; allow more time"
    )
