"""What every implementation of the loop's ports must do: the API server's adapters and the cluster in memory alike."""

from __future__ import annotations

import copy
from typing import Protocol

import pytest

from pilothouse.api import names
from pilothouse.api.status import UNSEEN
from pilothouse.control.errors import BlockedError, ConflictError, GoneError, TransientError
from pilothouse.control.ports import Applier, Reader, Recorder, StatusWriter
from pilothouse.plan.actions import Apply, Notice
from pilothouse.plan.seen import Json, Key, Seen
from tests.contract.ports.objects import (
    MODEL,
    NOTICE,
    REVISION,
    SPEC,
    STATUS,
    condition,
    deletion,
    deployment,
    pod,
    revision,
    service,
)


class Hands(Protocol):
    """What a user does to the cluster, and reads from it, in one namespace of the test's own."""

    @property
    def namespace(self) -> str: ...
    @property
    def reader(self) -> Reader: ...
    @property
    def applier(self) -> Applier: ...
    @property
    def status_writer(self) -> StatusWriter: ...
    @property
    def recorder(self) -> Recorder: ...
    async def create(self, manifest: Json) -> Json: ...
    async def replace(self, body: Json) -> Json: ...
    async def get(self, kind: str, name: str) -> Json | None: ...
    async def delete(self, kind: str, name: str) -> None: ...
    async def notices(self) -> list[Notice]: ...


class PortsContract:
    """Give these tests a fixture `hands`."""

    async def test_there_is_nothing_to_see_of_an_unknown_key(self, hands: Hands) -> None:
        assert await hands.reader.observe(Key(hands.namespace, "nobody")) is None

    async def test_no_name_is_too_long_to_be_looked_at(self, hands: Hands) -> None:
        assert await hands.reader.observe(Key(hands.namespace, "n" * 100)) is None

    async def test_a_new_model_is_seen_without_children(self, hands: Hands) -> None:
        body = await model(hands)
        seen = await look(hands)
        assert (seen.uid, seen.generation, seen.key) == (
            body["metadata"]["uid"],
            1,
            Key(hands.namespace, MODEL),
        )
        assert (seen.deployments, seen.services, seen.revisions, seen.pods) == ((), (), (), ())

    async def test_what_is_applied_is_seen_as_our_own(self, hands: Hands) -> None:
        body = await model(hands)
        for manifest in (deployment(body), service(body), revision(body)):
            await hands.applier.execute(Apply(manifest, new=True))
        seen = await look(hands)
        for kind, child in (
            ("Deployment", seen.deployment(REVISION)),
            ("Service", seen.service(MODEL)),
            ("ControllerRevision", seen.revision(REVISION)),
        ):
            assert child is not None
            assert child["kind"] == kind
            assert child["apiVersion"] in ("v1", "apps/v1")

    async def test_children_are_seen_in_the_order_of_their_names(self, hands: Hands) -> None:
        body = await model(hands)
        for name in ("zeta", "alpha", "mid"):
            await hands.applier.execute(Apply(service(body, name), new=True))
        seen = await look(hands)
        assert [child["metadata"]["name"] for child in seen.services] == ["alpha", "mid", "zeta"]

    async def test_labelled_strangers_are_seen_but_not_owned(self, hands: Hands) -> None:
        body = await model(hands)
        stranger = service(body, "stranger")
        del stranger["metadata"]["ownerReferences"]
        await hands.create(stranger)
        seen = await look(hands)
        assert [seen.owned(child) for child in seen.services] == [False]
        assert seen.service("stranger") is None

    async def test_children_of_other_models_are_not_seen(self, hands: Hands) -> None:
        body = await model(hands)
        other = await model(hands, "letters")
        await hands.applier.execute(Apply(service(other, "letters"), new=True))
        await hands.applier.execute(Apply(service(body), new=True))
        seen = await look(hands)
        assert [child["metadata"]["name"] for child in seen.services] == [MODEL]

    async def test_pods_are_seen_by_their_labels(self, hands: Hands) -> None:
        await model(hands)
        await hands.create(pod(hands.namespace))
        seen = await look(hands)
        assert [(child["kind"], child["metadata"]["name"]) for child in seen.pods] == [("Pod", "digits-pod")]

    async def test_applying_the_same_again_changes_nothing(self, hands: Hands) -> None:
        body = await model(hands)
        for manifest in (service(body), revision(body)):
            await hands.applier.execute(Apply(manifest, new=True))
            before = await there(hands, manifest["kind"], manifest["metadata"]["name"])
            await hands.applier.execute(Apply(manifest, new=False))
            assert await there(hands, manifest["kind"], manifest["metadata"]["name"]) == before

    async def test_applying_the_same_deployment_again_is_no_new_generation(self, hands: Hands) -> None:
        # Its controller writes its status at any time, so that its resourceVersion tells nothing.
        body = await model(hands)
        await hands.applier.execute(Apply(deployment(body), new=True))
        before = await there(hands, "Deployment", REVISION)
        await hands.applier.execute(Apply(deployment(body), new=False))
        after = await there(hands, "Deployment", REVISION)
        assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], 1)

    async def test_a_changed_field_is_written_and_counted(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(deployment(body, replicas=1), new=True))
        await hands.applier.execute(Apply(deployment(body, replicas=3), new=False))
        live = await there(hands, "Deployment", REVISION)
        assert (live["spec"]["replicas"], live["metadata"]["generation"]) == (3, 2)

    async def test_a_field_that_is_no_longer_applied_goes(self, hands: Hands) -> None:
        body = await model(hands)
        manifest = service(body)
        manifest["metadata"]["annotations"] = {"note": "made by us", "stays": "yes"}
        await hands.applier.execute(Apply(copy.deepcopy(manifest), new=True))
        del manifest["metadata"]["annotations"]["note"]
        await hands.applier.execute(Apply(manifest, new=False))
        live = await there(hands, "Service", MODEL)
        assert live["metadata"]["annotations"] == {"stays": "yes"}

    async def test_fields_of_others_are_left_alone(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(service(body), new=True))
        live = await there(hands, "Service", MODEL)
        live["metadata"]["annotations"] = {"theirs": "kept"}
        await hands.replace(live)
        changed = service(body)
        changed["spec"]["selector"] = {"app": "other"}
        await hands.applier.execute(Apply(changed, new=False))
        live = await there(hands, "Service", MODEL)
        assert live["metadata"]["annotations"] == {"theirs": "kept"}
        assert live["spec"]["selector"] == {"app": "other"}

    async def test_our_fields_are_taken_back(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(deployment(body, replicas=1), new=True))
        live = await there(hands, "Deployment", REVISION)
        live["spec"]["replicas"] = 7
        await hands.replace(live)
        await hands.applier.execute(Apply(deployment(body, replicas=1), new=False))
        assert (await there(hands, "Deployment", REVISION))["spec"]["replicas"] == 1

    async def test_a_name_that_nobody_owns_is_taken(self, hands: Hands) -> None:
        body = await model(hands)
        theirs = service(body)
        del theirs["metadata"]["ownerReferences"], theirs["metadata"]["labels"]
        before = await hands.create(theirs)
        with pytest.raises(BlockedError) as caught:
            await hands.applier.execute(Apply(service(body), new=True))
        assert caught.value.reason == "NameTaken"
        assert 'Service "digits"' in str(caught.value)
        assert await there(hands, "Service", MODEL) == before

    async def test_a_name_that_another_model_owns_is_taken(self, hands: Hands) -> None:
        body, other = await model(hands), await model(hands, "letters")
        before = await hands.create(service(other, MODEL))
        with pytest.raises(BlockedError, match='"letters"') as caught:
            await hands.applier.execute(Apply(service(body), new=True))
        assert caught.value.reason == "NameTaken"
        assert await there(hands, "Service", MODEL) == before

    async def test_a_child_of_the_last_object_of_that_name_is_waited_for(self, hands: Hands) -> None:
        body = await model(hands)
        # As garbage collection leaves it for a moment: its owner is gone, and had the same name.
        older = service(
            body | {"metadata": body["metadata"] | {"uid": "11111111-1111-1111-1111-111111111111"}}
        )
        older["metadata"]["finalizers"] = ["pilothouse.test/hold"]
        before = await hands.create(older)
        with pytest.raises(TransientError, match="collected"):
            await hands.applier.execute(Apply(service(body), new=True))
        live = await there(hands, "Service", MODEL)
        assert live["spec"] == before["spec"]
        live["metadata"].pop("finalizers", None)
        await hands.replace(live)

    async def test_our_own_child_that_lost_its_labels_gets_them_back(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(service(body), new=True))
        live = await there(hands, "Service", MODEL)
        del live["metadata"]["labels"]
        await hands.replace(live)
        await hands.applier.execute(Apply(service(body), new=True))
        assert (await look(hands)).service(MODEL) is not None

    async def test_an_immutable_field_is_not_changed(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(deployment(body), new=True))
        changed = deployment(body)
        changed["spec"]["selector"]["matchLabels"]["more"] = "of it"
        changed["spec"]["template"]["metadata"]["labels"]["more"] = "of it"
        with pytest.raises(BlockedError, match="selector") as caught:
            await hands.applier.execute(Apply(changed, new=False))
        assert caught.value.reason == "InvalidSpec"

    async def test_a_revision_takes_a_new_number_and_keeps_its_data(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(revision(body), new=True))
        await hands.applier.execute(Apply(revision(body) | {"revision": 2}, new=False))
        assert (await there(hands, "ControllerRevision", REVISION))["revision"] == 2
        with pytest.raises(BlockedError):
            await hands.applier.execute(Apply(revision(body) | {"data": {"model": "other"}}, new=False))

    async def test_a_child_is_deleted_and_may_be_gone_already(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(service(body), new=True))
        delete = deletion(await there(hands, "Service", MODEL))
        await hands.applier.execute(delete)
        assert await hands.get("Service", MODEL) is None
        await hands.applier.execute(delete)

    async def test_another_object_of_the_same_name_is_not_deleted(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(service(body), new=True))
        older = deletion(await there(hands, "Service", MODEL))
        await hands.delete("Service", MODEL)
        await hands.create(service(body))
        await hands.applier.execute(older)
        assert await hands.get("Service", MODEL) is not None

    async def test_a_status_is_written_and_is_no_new_generation(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.status_writer.write(body, STATUS)
        seen = await look(hands)
        assert seen.body["status"] == STATUS
        assert (seen.generation, seen.body["spec"]) == (1, body["spec"])

    async def test_the_same_status_again_changes_nothing(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.status_writer.write(body, STATUS)
        written = (await look(hands)).body
        await hands.status_writer.write(written, STATUS)
        assert (await look(hands)).body == written

    async def test_what_a_status_no_longer_says_goes(self, hands: Hands) -> None:
        body = await model(hands)
        conditions = [condition("Ready"), condition("Reconciling")]
        await hands.status_writer.write(body, STATUS | {"conditions": conditions})
        shorter = STATUS | {"conditions": conditions[:1]}
        del shorter["stableRevision"]
        await hands.status_writer.write((await look(hands)).body, shorter)
        assert (await look(hands)).body["status"] == shorter

    async def test_a_status_is_not_written_onto_what_has_changed(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.replace(body | {"spec": body["spec"] | {"replicas": 3}})
        with pytest.raises(ConflictError):
            await hands.status_writer.write(body, STATUS)
        assert (await look(hands)).body["status"] == UNSEEN

    async def test_a_status_is_for_one_object_and_not_for_its_name(self, hands: Hands) -> None:
        older = await model(hands)
        await hands.delete(names.KIND, MODEL)
        with pytest.raises(GoneError):
            await hands.status_writer.write(older, STATUS)
        await model(hands)
        with pytest.raises(ConflictError):
            await hands.status_writer.write(older, STATUS)
        assert (await look(hands)).body["status"] == UNSEEN

    async def test_a_notice_is_told_once_for_each_state_of_an_object(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.recorder.emit(body, NOTICE)
        await hands.recorder.emit(body, NOTICE)
        assert await hands.notices() == [NOTICE]
        await hands.status_writer.write(body, STATUS)
        await hands.recorder.emit((await look(hands)).body, NOTICE)
        assert await hands.notices() == [NOTICE, NOTICE]

    async def test_a_notice_about_nothing_does_no_harm(self, hands: Hands) -> None:
        body = await model(hands)
        nowhere = body | {"metadata": body["metadata"] | {"namespace": "nowhere-at-all"}}
        await hands.recorder.emit(nowhere, NOTICE)
        assert await hands.notices() == []


async def model(hands: Hands, name: str = MODEL) -> Json:
    """Create a ModelDeployment and return it."""
    return await hands.create(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"namespace": hands.namespace, "name": name},
            "spec": copy.deepcopy(SPEC),
        }
    )


async def look(hands: Hands) -> Seen:
    """Observe the model, which must be there."""
    seen = await hands.reader.observe(Key(hands.namespace, MODEL))
    assert seen is not None
    return seen


async def there(hands: Hands, kind: str, name: str) -> Json:
    """Return an object that must be there."""
    body = await hands.get(kind, name)
    assert body is not None
    return body
