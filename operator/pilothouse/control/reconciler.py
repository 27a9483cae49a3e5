"""One pass for one key: look, decide, act, write down, tell, and say when to look again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from pilothouse.control.errors import BlockedError, ConflictError, GoneError, TransientError
from pilothouse.control.ports import Applier, Listener, Reader, Recorder, Sampler, StatusWriter, Telemetry
from pilothouse.plan import drift
from pilothouse.plan.actions import Action, Apply, Delete, Label, Notice
from pilothouse.plan.answers import Problem
from pilothouse.plan.decide import Decision, blocked, decide, questions
from pilothouse.plan.loading import inquiries
from pilothouse.plan.samples import Samples
from pilothouse.plan.seen import Away, Json, Key, Seen
from pilothouse.plan.status import compose
from pilothouse.plan.template import Defaults
from pilothouse.plan.waking import look_again

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How a pass ended.

    `again` is in how many seconds the key must be looked at again (None: at the next resync); `failed` says that the
    pass did not get through, so that the caller backs off.
    """

    outcome: str
    again: float | None = None
    failed: bool = False


class Reconciler:
    """Reconciles one ModelDeployment at a time; holds nothing between passes.

    Args:
        away: when last no operator could look, before this one began.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        applier: Applier,
        status_writer: StatusWriter,
        recorder: Recorder,
        telemetry: Telemetry,
        defaults: Defaults,
        clock: Callable[[], datetime],
        sampler: Sampler,
        listener: Listener,
        away: Away | None = None,
    ) -> None:
        self._reader = reader
        self._applier = applier
        self._status_writer = status_writer
        self._recorder = recorder
        self._telemetry = telemetry
        self._defaults = defaults
        self._clock = clock
        self._sampler = sampler
        self._listener = listener
        self._away = away

    async def reconcile(self, key: Key) -> Result:
        """Make one pass. Raises nothing that can happen outside; what it raises is a bug, and the caller logs it."""
        began = time.monotonic()
        result = await self._guarded(key)
        self._telemetry.reconciled(result.outcome, time.monotonic() - began)
        return result

    async def _guarded(self, key: Key) -> Result:
        try:
            return await self._pass(key)
        except TransientError as error:
            log.warning("will try again: %s", error)
            return Result("transient", failed=True)
        except ConflictError as error:
            log.info("changed meanwhile, looking again: %s", error)
            return Result("conflict", failed=True)
        except GoneError as error:
            log.info("gone meanwhile: %s", error)
            return Result("gone", failed=True)
        except BlockedError as error:
            log.warning("blocked: %s: %s", error.reason, error)
            return Result("blocked", failed=True)

    async def _pass(self, key: Key) -> Result:
        seen = await self._reader.observe(key)
        if seen is None or "deletionTimestamp" in seen.body["metadata"]:
            # Its children have it as their owner: the garbage collector takes them.
            self._telemetry.forget(key)
            self._sampler.forget(key)
            return Result("gone")
        seen = replace(seen, away=self._away)
        now = self._clock()
        samples, reports, drifted = await asyncio.gather(
            self._measured(seen, now),
            self._listener.listen(inquiries(seen)),
            self._listener.drift(drift.inquiries(seen)),
        )
        decision = decide(seen, self._defaults, now, samples, reports, drifted)
        problem, notices = decision.problem, decision.notices
        state = decision.state
        interrupted: Exception | None = None
        try:
            await self._act(decision)
        except BlockedError as error:
            problem = Problem(error.reason, str(error))
            notices = (*notices, *blocked(seen, problem))
        except (TransientError, ConflictError, GoneError) as error:
            interrupted = error
        status = compose(seen, decision.facts, state, problem, now)
        await self._write(seen, status, notices)
        if interrupted is not None:
            raise interrupted
        if problem is not None:
            invalid = decision.facts is None
            return Result("invalid" if invalid else "blocked", failed=not invalid)
        return Result("ok", look_again(decision, seen, status, now))

    async def _measured(self, seen: Seen, now: datetime) -> Samples | None:
        ask = questions(seen, self._defaults, now)
        if ask is None:
            self._sampler.forget(seen.key)
            return None
        return await self._sampler.sample(seen.key, ask)

    async def _act(self, decision: Decision) -> None:
        for action in decision.actions:
            verb, kind, name = _told(action)
            log.info("%s %s %s", verb, kind, name)
            self._telemetry.wrote(verb)
            await self._applier.execute(action)

    async def _write(self, seen: Seen, status: Json, notices: tuple[Notice, ...]) -> None:
        if status != (seen.body.get("status") or {}):
            self._telemetry.wrote("status")
            await self._status_writer.write(seen.body, status)
        conditions = {c["type"]: c["status"] == "True" for c in status["conditions"]}
        self._telemetry.observed(seen.key, ready=conditions["Ready"], available=conditions["Available"])
        for notice in notices:
            log.info("%s: %s", notice.reason, notice.message)
            self._telemetry.wrote("event")
            await self._recorder.emit(seen.body, notice)


def _told(action: Action) -> tuple[str, str, str]:
    """Return what is done to what, for the log and the metrics: verb, kind and name."""
    match action:
        case Apply(manifest):
            return "apply", manifest["kind"], manifest["metadata"]["name"]
        case Delete():
            return "delete", action.kind, action.name
        case Label():
            return "label", "Pod", action.name
