"""An API server in memory: as much of Kubernetes as the loop's ports touch, for tests that need no cluster.

It fulfils `Reader`, `Applier`, `StatusWriter` and `Recorder`, and keeps to the same contract suite as the
real adapters. What controllers and nodes do is played by `tests.support.played_nodes`. Nothing happens by
itself: time and failures are the test's.
"""

from __future__ import annotations

import asyncio
import marshal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pilothouse.api import names
from pilothouse.api.status import UNSEEN
from pilothouse.control.errors import BlockedError, ConflictError, GoneError, PilothouseError, TransientError
from pilothouse.plan.actions import Action, Apply, Delete, Label, Notice
from pilothouse.plan.seen import Json, Key, Seen, controller_uid
from tests.support.memory_merge import defaulted, merged, timestamp

_MANAGER = "pilothouse"
_STATUS_MANAGER = "pilothouse-status"
# Of these the API server counts the changes of anything but metadata and status.
_WITH_GENERATION = frozenset({names.KIND, "Deployment", "PodDisruptionBudget"})
_IMMUTABLE: dict[str, tuple[tuple[str, ...], ...]] = {
    "Deployment": (("spec", "selector"),),
    "ControllerRevision": (("data",),),
    "Job": (("spec", "selector"), ("spec", "template"), ("spec", "completions")),
}


class Ref(NamedTuple):
    """Which object."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call of a port: its request never arrives, or its answer never comes back."""

    error: PilothouseError
    lost: Literal["request", "answer"] = "request"


class MemoryCluster:
    """Objects, and how the API server changes them.

    Attributes:
        objects: what exists now; read it freely, change it through the methods.
        calls: how many port calls there were; `faults` are looked up by this number, which counts from 1.
        faults_in_writes: the same, counting only those that write children or status.
        writes: requests by kind (apply, delete, label, status, event), whether or not they changed anything.
        changes: requests by kind that did change something.
        notices: the Events recorded, as (key, notice).
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self.objects: dict[Ref, Json] = {}
        self.faults: dict[int, Fault] = {}
        self.faults_in_writes: dict[int, Fault] = {}
        self.calls = 0
        self.writes: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.notices: list[tuple[Key, Notice]] = []
        self.terminating: set[str] = set()
        self._told: set[tuple[str, str, Notice]] = set()
        self._applied: dict[tuple[Ref, str], Json] = {}
        self._version = 0
        self._written = 0
        self._uids = 0

    # What a user, or another controller, does.

    def create(self, manifest: Json) -> Json:
        """Create an object as `kubectl create` would and return it.

        Raises:
            ConflictError: the name is in use.
            GoneError: the namespace is being deleted.
        """
        ref = _ref(manifest)
        if ref in self.objects:
            raise ConflictError(f"{ref} exists already")
        self._refuse_in_terminating(ref.namespace)
        body = _copied(manifest)
        body.pop("status", None)
        if ref.kind == names.KIND:
            body["status"] = _copied(UNSEEN)  # the schema's default
        self._uids += 1
        body["metadata"] |= {
            "uid": f"00000000-0000-0000-0000-{self._uids:012d}",
            "creationTimestamp": timestamp(self.now()),
        }
        if ref.kind in _WITH_GENERATION:
            body["metadata"]["generation"] = 1
        self._store(ref, defaulted(body, self._uids))
        return self._read(ref)

    def edit(self, ref: Ref, change: Callable[[Json], None]) -> Json:
        """Let `change` edit an object in place, its status excepted, as `kubectl edit` would; return it."""
        body = self._read(ref)
        status = body.pop("status", None)
        change(body)
        if status is not None:
            body["status"] = status
        self._replace(ref, body)
        return self._read(ref)

    def set_status(self, ref: Ref, status: Json) -> None:
        """Replace an object's status, as the controller of that kind would."""
        self._replace(ref, self._read(ref) | {"status": _copied(status)})

    def delete(self, ref: Ref, *, foreground: bool = False) -> None:
        """Delete an object: at once, or in the foreground, where it stays for as long as it has children."""
        if ref not in self.objects:
            return
        body = self._read(ref)
        if foreground and any(self.children(body["metadata"]["uid"])):
            body["metadata"].setdefault("deletionTimestamp", timestamp(self.now()))
            body["metadata"]["finalizers"] = ["foregroundDeletion"]
            self._replace(ref, body)
        else:
            self._remove(ref)

    def collect_garbage(self) -> None:
        """Remove what has an owner that is gone, as the garbage collector does in its own time."""
        changed = True
        while changed:
            changed = False
            uids = {body["metadata"]["uid"] for body in self.objects.values()}
            for ref, body in list(self.objects.items()):
                owner = controller_uid(body)
                waiting = "foregroundDeletion" in body["metadata"].get("finalizers", ())
                childless = not any(self.children(body["metadata"]["uid"]))
                orphan = owner is not None and (owner not in uids or self._dies_in_foreground(owner))
                if orphan or (waiting and childless):
                    self._remove(ref)
                    changed = True

    def get(self, ref: Ref) -> Json | None:
        """Return a copy of an object, or None where there is none."""
        return self._read(ref) if ref in self.objects else None

    def select(self, kind: str, namespace: str, labels: dict[str, str]) -> tuple[Json, ...]:
        """Return copies of the objects that carry these labels, sorted by name."""
        found = (
            body
            for ref, body in self.objects.items()
            if (ref.kind, ref.namespace) == (kind, namespace)
            and labels.items() <= body["metadata"].get("labels", {}).items()
        )
        return tuple(_copied(sorted(found, key=lambda body: str(body["metadata"]["name"]))))

    def children(self, uid: str) -> Iterator[Ref]:
        """Yield what the object with this uid controls."""
        return (ref for ref, body in list(self.objects.items()) if controller_uid(body) == uid)

    # The ports.

    async def observe(self, key: Key) -> Seen | None:
        """See `Reader`."""
        fault = await self._call()
        ref = Ref(names.KIND, key.namespace, key.name)
        seen = None
        if ref in self.objects:
            labels = names.model_selector(key.name)
            seen = Seen(
                self._read(ref),
                deployments=self.select("Deployment", key.namespace, labels),
                services=self.select("Service", key.namespace, labels),
                revisions=self.select("ControllerRevision", key.namespace, labels),
                pods=self.select("Pod", key.namespace, labels),
                jobs=self.select("Job", key.namespace, labels),
                budgets=self.select("PodDisruptionBudget", key.namespace, labels),
                autoscalers=self.select("HorizontalPodAutoscaler", key.namespace, labels),
                slices=self.select("EndpointSlice", key.namespace, labels),
            )
        _answer(fault)
        return seen

    async def execute(self, action: Action) -> None:
        """See `Applier`."""
        fault = await self._call(writes=True)
        match action:
            case Apply():
                self.writes["apply"] += 1
                self.changes["apply"] += self._apply(action)
            case Delete():
                self.writes["delete"] += 1
                ref = Ref(action.kind, action.namespace, action.name)
                live = self.objects.get(ref)
                if live is not None and live["metadata"]["uid"] == action.uid:
                    self._remove(ref)
                    self.changes["delete"] += 1
            case Label():
                self.writes["label"] += 1
                self.changes["label"] += self._label(action)
        _answer(fault)

    async def write(self, body: Json, status: Json) -> None:
        """See `StatusWriter`."""
        fault = await self._call(writes=True)
        self.writes["status"] += 1
        ref = _ref(body)
        live = self.objects.get(ref)
        if live is None:
            raise GoneError(f"{ref} is gone")
        if live["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError(f"{ref} has changed since it was looked at")
        self.changes["status"] += self._server_side_apply(ref, {"status": status}, _STATUS_MANAGER)
        _answer(fault)

    async def emit(self, body: Json, notice: Notice) -> None:
        """See `Recorder`."""
        self.writes["event"] += 1
        meta = body["metadata"]
        told = (meta["uid"], meta["resourceVersion"], notice)
        if meta["namespace"] not in self.terminating and told not in self._told:
            self.changes["event"] += 1
            self._told.add(told)
            self.notices.append((Key(meta["namespace"], meta["name"]), notice))

    # The server.

    def _apply(self, action: Apply) -> bool:
        manifest = action.manifest
        ref = _ref(manifest)
        live = self.objects.get(ref)
        if live is None:
            self.create(manifest)
            self._applied[ref, _MANAGER] = _copied(manifest)
            return True
        if action.new and controller_uid(live) != controller_uid(manifest):
            self._refuse_name(ref, live, manifest)
        return self._server_side_apply(ref, manifest, _MANAGER)

    def _label(self, action: Label) -> bool:
        ref = Ref("Pod", action.namespace, action.name)
        live = self.objects.get(ref)
        if live is None or live["metadata"]["uid"] != action.uid:
            return False
        body = self._read(ref)
        body["metadata"].setdefault("labels", {})[action.label] = action.value
        return self._replace(ref, body)

    def _refuse_name(self, ref: Ref, live: Json, manifest: Json) -> None:
        what = f'{ref.kind} "{ref.name}"'
        mine = manifest["metadata"]["ownerReferences"][0]
        owner = next((o for o in live["metadata"].get("ownerReferences", ()) if o.get("controller")), None)
        if owner is not None and (owner["kind"], owner["name"]) == (mine["kind"], mine["name"]):
            raise TransientError(f"{what} of an older {mine['name']} is being collected")
        if "deletionTimestamp" in live["metadata"]:
            raise TransientError(f"{what} is being deleted")
        belongs = f'belongs to {owner["kind"]} "{owner["name"]}"' if owner else "was not made by Pilothouse"
        raise BlockedError("NameTaken", f"{what} exists already and {belongs}")

    def _server_side_apply(self, ref: Ref, manifest: Json, manager: str) -> bool:
        before = self._applied.get((ref, manager), {})
        live = self._read(ref)
        body = defaulted(merged(live, before, manifest), self._uids)
        for path in _IMMUTABLE.get(ref.kind, ()):
            if _at(body, path) != _at(live, path):
                what = f"{ref.kind} {ref.name}: {'.'.join(path)}"
                raise BlockedError("InvalidSpec", f"{what}: field is immutable")
        self._applied[ref, manager] = _copied(manifest)
        return self._replace(ref, body)

    def _replace(self, ref: Ref, body: Json) -> bool:
        old = self.objects[ref]
        if body == old:
            return False
        if ref.kind in _WITH_GENERATION and _without_metadata(body) != _without_metadata(old):
            body["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self._store(ref, body)
        return True

    def _store(self, ref: Ref, body: Json) -> None:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.objects[ref] = body

    def _remove(self, ref: Ref) -> None:
        del self.objects[ref]
        self._version += 1
        for owned in [key for key in self._applied if key[0] == ref]:
            del self._applied[owned]

    def _read(self, ref: Ref) -> Json:
        body: Json = _copied(self.objects[ref])
        return body

    def _dies_in_foreground(self, uid: str) -> bool:
        return any(
            body["metadata"]["uid"] == uid and "foregroundDeletion" in body["metadata"].get("finalizers", ())
            for body in self.objects.values()
        )

    def _refuse_in_terminating(self, namespace: str) -> None:
        if namespace in self.terminating:
            raise GoneError(f"namespace {namespace} is being deleted")

    async def _call(self, *, writes: bool = False) -> Fault | None:
        self.calls += 1
        fault = self.faults.get(self.calls)
        if writes:
            self._written += 1
            fault = fault or self.faults_in_writes.get(self._written)
        await asyncio.sleep(0)
        if fault is not None and fault.lost == "request":
            raise fault.error
        return fault


def _answer(fault: Fault | None) -> None:
    if fault is not None:
        raise fault.error


def _ref(manifest: Json) -> Ref:
    return Ref(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _at(body: Json, path: tuple[str, ...]) -> Any:
    value: Any = body
    for field in path:
        value = value.get(field, {})
    return value


def _without_metadata(body: Json) -> Json:
    return {field: value for field, value in body.items() if field not in ("metadata", "status")}


def _copied(value: Any) -> Any:
    # Plain JSON: several times faster than copy.deepcopy, and a search through thousands of stories lives on speed.
    return marshal.loads(marshal.dumps(value))  # noqa: S302 - of what was dumped just now
