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
from pilothouse.plan.compare import covers
from pilothouse.plan.seen import Json, Key, Seen
from tests.contract.ports.objects import (
    CONCURRENCY,
    CPU,
    GRPC,
    MODEL,
    NOTICE,
    REVISION,
    SPEC,
    STATUS,
    VALIDATION,
    autoscaler,
    budget,
    condition,
    deletion,
    deployment,
    endpoint_slice,
    job,
    labelling,
    pod,
    revision,
    service,
)


class Hands(Protocol):
    """What a user does to the cluster, and reads from it, in one namespace of the test's own."""

    @property
    def namespace(self) -> str: ...
    @property
    def budget_api(self) -> str: ...
    @property
    def autoscaler_api(self) -> str: ...
    @property
    def slice_api(self) -> str: ...
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
        assert (seen.jobs, seen.budgets, seen.autoscalers) == ((), (), ())

    async def test_what_is_applied_is_seen_as_our_own(self, hands: Hands) -> None:
        body = await model(hands)
        manifests = every_child(hands, body)
        for manifest in manifests:
            await hands.applier.execute(Apply(manifest, new=True))
        seen = await look(hands)
        found = [
            seen.deployment(REVISION),
            seen.service(MODEL),
            seen.revision(REVISION),
            seen.job(VALIDATION),
            seen.budget(MODEL),
            seen.autoscaler(MODEL),
        ]
        for child, manifest in zip(found, manifests, strict=True):
            assert child is not None
            assert (child["kind"], child["apiVersion"]) == (manifest["kind"], manifest["apiVersion"])
            # Else it would be written again in every pass.
            assert covers(child, manifest)

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

    async def test_endpoint_slices_are_seen_by_the_labels_of_their_service(self, hands: Hands) -> None:
        await model(hands)
        await hands.create(endpoint_slice(hands.namespace, hands.slice_api))
        seen = await look(hands)
        assert [child["kind"] for child in seen.slices] == ["EndpointSlice"]
        assert seen.slices[0]["endpoints"][0]["targetRef"]["name"] == "digits-pod"

    async def test_applying_the_same_again_changes_nothing(self, hands: Hands) -> None:
        body = await model(hands)
        for manifest in (service(body), revision(body)):
            await hands.applier.execute(Apply(manifest, new=True))
            before = await there(hands, manifest["kind"], manifest["metadata"]["name"])
            await hands.applier.execute(Apply(manifest, new=False))
            assert await there(hands, manifest["kind"], manifest["metadata"]["name"]) == before

    async def test_a_port_joins_the_one_that_an_older_operator_gave(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(service(body), new=True))
        before = await there(hands, "Service", MODEL)
        wanted = service(body)
        wanted["spec"]["ports"].append(GRPC)
        assert not covers(before, wanted)
        await hands.applier.execute(Apply(wanted, new=False))
        after = await there(hands, "Service", MODEL)
        assert covers(after, wanted)
        assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]
        await hands.applier.execute(Apply(wanted, new=False))
        assert await there(hands, "Service", MODEL) == after

    async def test_applying_what_has_a_controller_again_changes_no_spec(self, hands: Hands) -> None:
        # Its controller writes its status at any time, so that its resourceVersion tells nothing.
        body = await model(hands)
        for manifest in every_child(hands, body):
            if manifest["kind"] not in (
                "Deployment",
                "Job",
                "PodDisruptionBudget",
                "HorizontalPodAutoscaler",
            ):
                continue
            name = manifest["metadata"]["name"]
            await hands.applier.execute(Apply(manifest, new=True))
            before = await there(hands, manifest["kind"], name)
            await hands.applier.execute(Apply(manifest, new=False))
            after = await there(hands, manifest["kind"], name)
            generations = [at["metadata"].get("generation") for at in (before, after)]
            assert (after["spec"], generations[1]) == (before["spec"], generations[0])

    async def test_a_job_s_template_and_selector_are_its_own(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(job(body), new=True))
        before = await there(hands, "Job", VALIDATION)
        changed = job(body)
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
        with pytest.raises(BlockedError, match="immutable") as caught:
            await hands.applier.execute(Apply(changed, new=False))
        assert caught.value.reason == "InvalidSpec"
        assert (await there(hands, "Job", VALIDATION))["spec"] == before["spec"]
        # What tells its pods from those of other Jobs is the server's doing, and on them too.
        selector = before["spec"]["selector"]["matchLabels"].items()
        assert selector <= before["spec"]["template"]["metadata"]["labels"].items()

    async def test_a_job_may_be_given_more_time(self, hands: Hands) -> None:
        body = await model(hands)
        await hands.applier.execute(Apply(job(body), new=True))
        longer = job(body)
        longer["spec"]["activeDeadlineSeconds"] = 900
        await hands.applier.execute(Apply(longer, new=False))
        assert (await there(hands, "Job", VALIDATION))["spec"]["activeDeadlineSeconds"] == 900

    async def test_budgets_and_autoscalers_follow_what_is_applied(self, hands: Hands) -> None:
        body = await model(hands)
        first = budget(body, hands.budget_api), autoscaler(body, hands.autoscaler_api)
        for manifest in first:
            await hands.applier.execute(Apply(manifest, new=True))
        second = copy.deepcopy(first)
        second[0]["spec"] |= {"maxUnavailable": "50%", "selector": {"matchLabels": {"app": "other"}}}
        second[1]["spec"] |= {"minReplicas": 2, "maxReplicas": 3, "metrics": [CONCURRENCY]}
        for manifest in second:
            await hands.applier.execute(Apply(manifest, new=False))
        seen = await look(hands)
        for child, manifest, older in zip((*seen.budgets, *seen.autoscalers), second, first, strict=True):
            assert covers(child, manifest)
            assert not covers(child, older)
            assert len(child["spec"].get("metrics", ())) == len(manifest["spec"].get("metrics", ()))

    async def test_an_autoscaler_s_percent_of_the_cpu_may_come_last(self, hands: Hands) -> None:
        """Whoever wants several metrics lists it last: before Kubernetes 1.23 that is the order they come back in."""
        body = await model(hands)
        manifest = autoscaler(body, hands.autoscaler_api, CPU)
        for metrics in ([CPU], [CONCURRENCY], [CONCURRENCY, CPU]):
            manifest["spec"]["metrics"] = metrics
            await hands.applier.execute(Apply(manifest, new=False))
            assert covers((await look(hands)).autoscaler(MODEL), manifest)

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

    async def test_every_kind_of_child_is_deleted_by_its_uid(self, hands: Hands) -> None:
        body = await model(hands)
        for manifest in every_child(hands, body):
            await hands.applier.execute(Apply(manifest, new=True))
        seen = await look(hands)
        children = (*seen.jobs, *seen.budgets, *seen.autoscalers)
        for child in children:
            stranger = child | {
                "metadata": child["metadata"] | {"uid": "11111111-1111-1111-1111-111111111111"}
            }
            await hands.applier.execute(deletion(stranger))
        seen = await look(hands)
        assert len((*seen.jobs, *seen.budgets, *seen.autoscalers)) == 3
        for child in children:
            await hands.applier.execute(deletion(child))
        seen = await look(hands)
        assert (seen.jobs, seen.budgets, seen.autoscalers) == ((), (), ())

    async def test_one_label_of_a_pod_is_set_and_no_other(self, hands: Hands) -> None:
        await model(hands)
        before = await hands.create(pod(hands.namespace))
        for value in (names.SERVING, names.NOT_SERVING, names.NOT_SERVING):
            await hands.applier.execute(labelling(before, value))
            (seen,) = (await look(hands)).pods
            assert seen["metadata"]["labels"] == before["metadata"]["labels"] | {names.LABEL_SERVING: value}
            assert seen["spec"] == before["spec"]

    async def test_a_pod_that_is_gone_needs_no_label(self, hands: Hands) -> None:
        await model(hands)
        gone = await hands.create(pod(hands.namespace))
        await hands.delete("Pod", gone["metadata"]["name"])
        await hands.applier.execute(labelling(gone, names.SERVING))
        assert (await look(hands)).pods == ()

    async def test_another_pod_of_the_same_name_is_not_labelled(self, hands: Hands) -> None:
        await model(hands)
        gone = await hands.create(pod(hands.namespace))
        await hands.delete("Pod", gone["metadata"]["name"])
        later = await hands.create(pod(hands.namespace))
        await hands.applier.execute(labelling(gone, names.SERVING))
        (seen,) = (await look(hands)).pods
        assert seen["metadata"]["labels"] == later["metadata"]["labels"]

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


def every_child(hands: Hands, body: Json) -> list[Json]:
    """Return a child of each kind there is."""
    return [
        deployment(body),
        service(body),
        revision(body),
        job(body),
        budget(body, hands.budget_api),
        autoscaler(body, hands.autoscaler_api),
    ]


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
