"""A world in which stories are told, and in which the operator is watched at each pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from hypothesis import note

from pilothouse.api import names
from pilothouse.api.conditions import Command, Phase
from pilothouse.control.reconciler import Result
from pilothouse_runtime.contract import ValidationReport
from tests.property.plan.invariants import INVARIANTS, Pass
from tests.property.plan.look import Known, look
from tests.property.plan.story import (
    Away,
    Break,
    Change,
    Eve,
    Evict,
    Hold,
    Late,
    Line,
    Nature,
    Order,
    Remove,
    Rush,
    Scale,
    Silence,
    Turn,
    Whose,
    Work,
)
from tests.support.memory_cluster import Ref
from tests.support.played_pods import Fate
from tests.support.world import World, model, pause

_MOST_AT_ONCE = 30
# Moves within which requests begin to move to a revision whose pods come up.
_EVE = 20


class Watched(World):
    """Tells stories; every pass of the operator is held to the invariants, and every line is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.known = Known()
        self.told_so_far: list[str] = []
        self._at_once = 0
        self._versions_of: dict[str, str] = {}

    # What happens.

    async def move(self) -> Result:
        """One pass, with everything that must hold around it."""
        before = look(self)
        result = await self.one_pass()
        after = look(self)
        if after.stable is not None:
            self.known.served.add(after.stable)
        # A pass that says "again at once" for ever burns a core and the API server.
        self._at_once = self._at_once + 1 if result.again == 0 and not result.failed else 0
        assert self._at_once < _MOST_AT_ONCE, "the operator turns round and round"
        self.known.answered |= dict.fromkeys(before.mix, self.time)
        one = Pass(before, after, through=result.outcome == "ok", known=self.known)
        for holds in INVARIANTS:
            holds(one)
        return result

    async def work(self, moves: int, pods: int | None = None, apart: float = 1.0) -> None:
        """Let everybody make so many moves."""
        for _ in range(moves):
            result = await self.move()
            self.step(pods)
            self.sleep(apart if result.again != 0 or result.failed else 0.0)

    async def go_on(self, seconds: float) -> AsyncIterator[None]:
        """Let everybody work for so many seconds, each as soon as there is something to do; yield after each move."""
        end = self.time + timedelta(seconds=seconds)
        while self.time < end:
            before = self.versions()
            result = await self.move()
            self.step()
            yield
            self.sleep(min(pause(result, before != self.versions()), (end - self.time).total_seconds()))

    def step(self, pods: int | None = None) -> None:
        """Let the nodes make a move, and note what validations came to."""
        self.nodes.step(pods=pods)
        for ref, pod in self.cluster.objects.items():
            if ref.kind != "Pod" or pod.get("status", {}).get("phase") != "Succeeded":
                continue
            ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
            report = ValidationReport.decode(ended["message"])
            if report is not None:
                self.known.reports.setdefault(pod["metadata"]["annotations"]["job"], []).append(report.value)

    def change(self, line: Change) -> None:
        """Apply a spec."""
        spec = {"model": model(str(line.version)), **line.rest}
        revision = self.revision(spec)
        self._versions_of[revision] = f"<version {line.version}>"
        self.apply(**spec)
        if revision != self.status.get("stableRevision"):
            self.fate(revision, line.nature.pods)
            self.job_fate(revision, line.nature.job)
            self.temper(revision, line.nature.temper)
            self.known.natures[revision] = line.nature
            # What an earlier validation of it came to says nothing of how it is now; but one under way goes on.
            if revision != self.status.get("targetRevision"):
                self.known.reports.pop(revision, None)

    def heal(self) -> None:
        """Everything works again from now on, whatever was wrong."""
        self.cluster.faults.clear()
        self.nodes.fates.clear()
        self.nodes.jobs.fates.clear()
        self.nodes.endpoints.away = False
        self.users.tempers.clear()
        self.users.silent.clear()
        self.users.rate = 20.0
        self.known.natures = {revision: Nature() for revision in self.known.natures}

    # Stories.

    async def tell(self, story: Sequence[Line]) -> None:
        """Let a story happen."""
        for line in story:
            self.begin(str(line))
            await self._happen(line)

    def begin(self, sentence: str) -> None:
        """Note what things look like, and what happens next."""
        if self.told_so_far:
            self.told_so_far[-1] += f"\n      {self._now()}"
        self.told_so_far.append(f"{len(self.told_so_far) + 1:3}. {sentence}")

    def print_story(self, end: BaseException) -> None:
        """Print what happened so far, numbered, with how things stood after each line, and how it ended."""
        text = "\n".join(["The story:", *self.told_so_far, f"      {self._now()}", f"  => {end}"])
        note(self._readable(text))

    def _now(self) -> str:
        rollout = self.rollout
        ready = self.condition("Ready")
        shown = {
            "step": f"{rollout.get('step')}/{rollout.get('steps')}" if rollout.get("step") else None,
            "weight": rollout.get("weight"),
            "reached": rollout.get("reached"),
            "analysis": (rollout.get("analysis") or {}).get("last"),
        }
        words = " ".join(f"{key} {value}" for key, value in shown.items() if value is not None)
        states = ", ".join(f"{e['name']} {e['state']}" for e in self.status.get("revisions", ()))
        return (
            f"at {self.time:%H:%M:%S}: {self.phase or 'nothing yet'} {words} | Ready {ready.get('status')} "
            f"{ready.get('reason')} | {states} | requests to {dict(self.mix)}"
        )

    def _readable(self, text: str) -> str:
        for revision, version in self._versions_of.items():
            text = text.replace(revision, version)
        return text

    def _named(self, whose: Whose) -> str:
        match whose:
            case Whose.TARGET:
                return self.revision(self.body["spec"])
            case Whose.STABLE:
                return str(self.status.get("stableRevision", ""))
            case Whose.OTHER:
                return names.revision_name(self.key.name, "0123456789")

    async def _happen(self, line: Line) -> None:
        match line:
            case Change():
                self.change(line)
            case Scale(replicas):
                self.scale(replicas)
            case Hold(paused):
                self.patch(paused=paused)
            case Order(command, whose, token):
                self._order(command, self._named(whose), token)
            case Work(moves, pods, apart):
                await self.work(moves, pods if pods < 4 else None, apart)
            case Away(seconds):
                for _ in range(5):
                    self.step()
                    self.sleep(seconds / 5)
                self.start_operator()
            case Break(call, fault, restart):
                self.cluster.faults[self.cluster.calls + call] = fault
                if restart:
                    self.start_operator()
            case Turn(whose, fate):
                self._turn(self._named(whose), fate)
            case Evict(whose, pods):
                for pod in self.nodes.pods(self._named(whose))[:pods]:
                    self.evict(pod)
            case Remove(kind, whose):
                name = self.key.name if whose is None else self._named(whose)
                self.cluster.delete(Ref(kind, self.key.namespace, name))
            case Rush(rate):
                self.users.rate = rate
            case Silence(whose, silent):
                change = self.users.silent.add if silent else self.users.silent.discard
                change(self._named(whose))
            case Eve():
                for _ in range(_EVE):
                    if self.phase in (Phase.SHIFTING, Phase.SWITCHING):
                        break
                    await self.work(1)
            case Late(stands):
                self.nodes.endpoints.away = stands

    def _order(self, command: Command, revision: str, token: str) -> None:
        if command is Command.PROMOTE:
            self.known.promotions.add((revision, token))
        self.command(str(command), revision, token)

    def _turn(self, revision: str, fate: Fate) -> None:
        if revision:
            self.fate(revision, fate)
