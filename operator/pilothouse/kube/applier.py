"""Writes children: server-side apply, delete and labels of pods; never an object that belongs to somebody else."""

from __future__ import annotations

from typing import Final

from pilothouse.api.conditions import Reason
from pilothouse.control.errors import BlockedError, ConflictError, GoneError, TransientError
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.plan.actions import Action, Apply, Delete, Label
from pilothouse.plan.seen import Json, controller_uid

FIELD_MANAGER: Final = "pilothouse"


class KubeApplier:
    """Fulfils `pilothouse.control.ports.Applier`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def execute(self, action: Action) -> None:
        """Carry out one action.

        Raises:
            BlockedError: NameTaken where a new child's name belongs to somebody else; see `kube.errors` for more.
            TransientError: the name is held by an object that is about to go; see `kube.errors` for more.
            PilothouseError: as `Client.request` does.
        """
        match action:
            case Apply(manifest, new):
                await self._apply(manifest, new)
            case Delete():
                await self._delete(action)
            case Label():
                await self._label(action)

    async def _apply(self, manifest: Json, new: bool) -> None:
        meta = manifest["metadata"]
        path = paths.item(manifest["kind"], meta["namespace"], meta["name"], manifest["apiVersion"])
        if new:
            await self._check_name(path, manifest)
        await self._client.apply(path, manifest, FIELD_MANAGER)

    async def _check_name(self, path: str, manifest: Json) -> None:
        try:
            live = await self._client.get(path)
        except GoneError:
            return
        if controller_uid(live) != controller_uid(manifest):
            raise _name_taken(live, manifest)

    async def _delete(self, action: Delete) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": action.uid},
        }
        path = paths.item(action.kind, action.namespace, action.name, action.api_version)
        try:
            await self._client.request("DELETE", path, body=options)
        except (GoneError, ConflictError):
            return  # gone already, and perhaps another one has its name: that one is not ours to delete

    async def _label(self, action: Label) -> None:
        # A uid that differs makes the patch invalid: so Kubernetes' own controllers guard theirs
        # (pkg/controller/controller_ref_manager.go).
        patch = {"metadata": {"uid": action.uid, "labels": {action.label: action.value}}}
        path = paths.item("Pod", action.namespace, action.name)
        query = (("fieldManager", FIELD_MANAGER),)
        try:
            await self._client.request("PATCH", path, query, patch, "application/merge-patch+json")
        except GoneError:
            return
        except (BlockedError, ConflictError):
            if await self._is_there(action):
                raise

    async def _is_there(self, action: Label) -> bool:
        # Not a get, for which the operator has no right.
        query = [("fieldSelector", f"metadata.name={action.name}")]
        pods = await self._client.list_all(paths.collection("Pod", action.namespace), query)
        return any(pod["metadata"]["uid"] == action.uid for pod in pods)


def _name_taken(live: Json, manifest: Json) -> BlockedError | TransientError:
    what = f'{manifest["kind"]} "{manifest["metadata"]["name"]}"'
    mine = _controller(manifest)
    owner = _controller(live)
    if owner and mine and (owner["kind"], owner["name"]) == (mine["kind"], mine["name"]):
        return TransientError(f"{what} of a deleted {mine['kind']} of the same name is still being collected")
    if "deletionTimestamp" in live["metadata"]:
        return TransientError(f"{what} of somebody else is still being deleted")
    belongs = f'belongs to {owner["kind"]} "{owner["name"]}"' if owner else "was not made by Pilothouse"
    advice = "delete that object or give this ModelDeployment another name"
    return BlockedError(Reason.NAME_TAKEN, f"{what} exists already and {belongs}; {advice}")


def _controller(body: Json) -> Json | None:
    return next((o for o in body["metadata"].get("ownerReferences", ()) if o.get("controller")), None)
