"""What a revision's pods and Services look like."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilothouse.api.parse import parse
from pilothouse.api.runtime import Optimize
from pilothouse.plan.seen import Json
from pilothouse.plan.template import Defaults, pod_template
from pilothouse_runtime.core.settings import Optimize as Known
from pilothouse_runtime.core.settings import Sampling, read_settings
from tests.support.spec_strategies import model_deployment
from tests.support.world import World, model
from tests.unit.plan.given import blue_green, served


def container(**runtime: Any) -> Json:
    spec = parse(model_deployment({"model": {"uri": "file:///m.pt"}, "runtime": runtime}))
    template = pod_template("digits", "digits-1", spec, Defaults("runtime:1"))
    only: Json = template["spec"]["containers"][0]
    return only


@pytest.mark.parametrize(
    ("format_", "chosen", "image"),
    [
        ("tensorflow", "", "tensorflow:1"),
        ("tensorflow", "own:2", "own:2"),
        ("keras", "", "runtime:1"),
        ("auto", "", "runtime:1"),
    ],
)
def test_models_of_tensorflow_run_in_its_image(format_: str, chosen: str, image: str) -> None:
    spec = parse(
        model_deployment({"model": {"uri": "file:///m", "format": format_}, "runtime": {"image": chosen}})
    )
    with_tensorflow = Defaults("runtime:1", tensorflow_image="tensorflow:1")
    template = pod_template("digits", "digits-1", spec, with_tensorflow)
    assert template["spec"]["containers"][0]["image"] == image
    without = pod_template("digits", "digits-1", spec, Defaults("runtime:1"))
    assert without["spec"]["containers"][0]["image"] == (chosen or "runtime:1")


@pytest.mark.parametrize(
    ("optimize", "chosen", "image"),
    [
        ("compile", "", "compile:1"),
        ("compile", "own:2", "own:2"),
        ("bf16", "", "runtime:1"),
        ("none", "", "runtime:1"),
    ],
)
def test_models_that_are_compiled_run_where_there_is_a_compiler(
    optimize: str, chosen: str, image: str
) -> None:
    spec = parse(
        model_deployment(
            {"model": {"uri": "s3://models/m.pt2"}, "runtime": {"image": chosen, "optimize": optimize}}
        )
    )
    with_compiler = Defaults("runtime:1", compile_image="compile:1")
    pod = pod_template("digits", "digits-1", spec, with_compiler)["spec"]
    assert [part["image"] for part in (*pod["initContainers"], *pod["containers"])] == [image, image]
    without = pod_template("digits", "digits-1", spec, Defaults("runtime:1"))["spec"]
    assert without["containers"][0]["image"] == (chosen or "runtime:1")


def environment(**runtime: Any) -> dict[str, str]:
    return {item["name"]: item.get("value", "") for item in container(**runtime)["env"]}


def test_what_is_not_given_is_left_to_the_runtime() -> None:
    bare = environment()
    assert not [name for name in bare if "BATCH" in name or "ACCESS_LOG" in name or "WORKERS" in name]
    defaults = {"accessLog": False, "workers": 1, "optimize": "none"}
    assert environment(batching={"maxSize": 32, "maxDelay": "0.002s"}, **defaults) == bare


@pytest.mark.parametrize(
    ("batching", "rows", "seconds"),
    [
        ({"maxSize": 1}, 1, 0.002),
        ({"maxDelay": "0s"}, 32, 0),
        ({"maxDelay": "0.5ms"}, 32, 0.0005),
        ({"maxSize": 4096, "maxDelay": "10s"}, 4096, 10),
        ({}, 32, 0.002),
    ],
    ids=str,
)
def test_the_runtime_reads_the_batching_that_was_asked_for(batching: Json, rows: int, seconds: float) -> None:
    settings = read_settings(environment(batching=batching))
    assert settings.batch_max_size == rows
    assert settings.batch_max_delay == pytest.approx(seconds)


def test_the_runtime_reads_whether_to_log_requests() -> None:
    assert read_settings(environment(accessLog=True)).access_log
    assert not read_settings(environment()).access_log


def test_the_runtime_reads_whether_to_explain() -> None:
    assert read_settings(environment(explain=True)).explain
    assert "PILOTHOUSE_EXPLAIN" not in environment(explain=False)


def test_the_runtime_reads_what_to_compare_requests_with() -> None:
    settings = read_settings(
        environment(drift={"uri": "https://h/golden.npz", "digest": f"sha256:{64 * '0'}"})
    )
    assert (settings.drift_profile, settings.drift_digest) == ("https://h/golden.npz", 64 * "0")
    assert not [name for name in environment() if "DRIFT" in name]


def test_the_runtime_reads_which_requests_to_keep() -> None:
    asked = {"rate": "0.5%", "claim": "samples", "maxPerMinute": 6, "maxMegabytes": 1}
    assert read_settings(environment(sampling=asked)).sampling == Sampling(0.005, "/mnt/samples", 6, 1 << 20)
    assert read_settings(environment()).sampling is None
    mounts = {mount["name"]: mount for mount in container(sampling=asked)["volumeMounts"]}
    assert mounts["samples"] == {"name": "samples", "mountPath": "/mnt/samples"}
    assert "samples" not in {mount["name"] for mount in container()["volumeMounts"]}
    assert "envFrom" not in container(sampling=asked)


def test_the_runtime_reads_which_store_to_keep_requests_in() -> None:
    asked = {"rate": "100%", "uri": "s3://samples/digits/", "secretName": "samples-writer"}
    settings = read_settings(environment(sampling=asked))
    assert settings.sampling == Sampling(1, "", 60, 64 << 20, "s3://samples/digits/")
    assert "samples" not in {mount["name"] for mount in container(sampling=asked)["volumeMounts"]}
    assert container(sampling=asked)["envFrom"] == [{"secretRef": {"name": "samples-writer"}}]
    assert "envFrom" not in container(sampling=asked | {"secretName": ""})


def test_the_secrets_of_model_and_samples_are_in_one_container_each() -> None:
    source = {"uri": "s3://models/digits.pt", "secretName": "models-readonly"}
    asked = {"rate": "1%", "uri": "s3://samples/digits/", "secretName": "samples-writer"}
    spec = parse(model_deployment({"model": source, "runtime": {"sampling": asked}}))
    pod = pod_template("digits", "digits-1", spec, Defaults("runtime:1"))["spec"]
    [init], [serving] = pod["initContainers"], pod["containers"]
    assert init["envFrom"] == [{"secretRef": {"name": "models-readonly"}}]
    assert serving["envFrom"] == [{"secretRef": {"name": "samples-writer"}}]
    assert "samples" not in json.dumps(init)
    assert "models-readonly" not in json.dumps(serving)


def test_the_runtime_reads_how_many_workers_there_are_to_be() -> None:
    assert read_settings(environment(workers=4)).workers == 4
    assert read_settings(environment()).workers == 1


def test_the_runtime_reads_what_to_compute_with() -> None:
    for way in Optimize:
        assert read_settings(environment(optimize=way.value)).optimize == way.value
    assert [*Optimize] == [*Known]
    assert read_settings(environment()).optimize == "none"


def test_tracing_is_a_matter_of_the_environment() -> None:
    given = environment(env=[{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}])
    assert given["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"


def test_a_pod_has_a_port_for_each_protocol() -> None:
    assert container()["ports"] == [
        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
        {"name": "grpc", "containerPort": 8081, "protocol": "TCP"},
    ]


async def test_every_service_has_a_port_for_each_protocol() -> None:
    world, first = await served()
    second = world.apply(model=model("2"), rollout=blue_green(autoPromote=False))
    await world.until(lambda: world.phase == "AwaitingPromotion")
    assert world.children("Service") == {"digits", "digits-preview", first, second}
    for name in world.children("Service"):
        service = world.child("Service", name)
        assert service is not None
        ports = {port["name"]: port for port in service["spec"]["ports"]}
        assert (ports["http"]["port"], ports["http"]["targetPort"]) == (80, "http")
        assert (ports["grpc"]["port"], ports["grpc"]["targetPort"]) == (8081, "grpc")
        assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"


async def test_services_of_an_older_release_get_the_port_and_its_pods_are_left_alone() -> None:
    world, first = await served()
    ports = older(world, first)
    await world.wait(3600)
    service = world.child("Service", "digits")
    assert service is not None
    assert [port["name"] for port in service["spec"]["ports"]] == ["http", "grpc"]
    deployment = world.child("Deployment", first)
    assert deployment is not None
    assert deployment["spec"]["template"]["spec"]["containers"][0]["ports"] == ports


def older(world: World, revision: str) -> list[Json]:
    """Put things as a release without gRPC left them; return the ports of its pods."""
    stored = {(ref.kind, ref.name): body for ref, body in world.cluster.objects.items()}
    for template in (
        stored["ControllerRevision", revision]["data"]["template"],
        stored["Deployment", revision]["spec"]["template"],
    ):
        template["spec"]["containers"][0]["ports"] = [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"}
        ]
    for name in ("digits", revision):
        del stored["Service", name]["spec"]["ports"][1]
    ports: list[Json] = template["spec"]["containers"][0]["ports"]
    return ports
