"""While a model comes up the status says what its pods do, and afterwards how long it took."""

from __future__ import annotations

import re
import time

from tests.support.deployments import model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.models import Models, Store
from tests.support.waiting import until

_PHASES = ["Starting", "Pulling", "Verified", "Loading", "Warming"]


def seconds(took: str) -> float:
    return float(took.removesuffix("ms")) / 1000 if took.endswith("ms") else float(took.removesuffix("s"))


def test_a_model_that_comes_slowly_is_watched_until_it_serves(
    kubectl: Kubectl, models: Models, store: Store
) -> None:
    url = store.url(Models.files["2"], "slow")
    kubectl.apply(model_deployment("slow", url, runtime={"batching": {"maxSize": 8}, "accessLog": True}))
    loading: list[Json] = []
    told: set[str] = set()

    def ready() -> bool:
        status = kubectl.status("slow")
        for entry in status.get("revisions", ()):
            if "loading" in entry and entry["loading"] not in loading:
                loading.append(entry["loading"])
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        told.add(conditions.get("Ready", {}).get("message", ""))
        return bool(conditions.get("Ready", {}).get("status") == "True")

    until(ready, seconds=120, every=0.5)
    pulling = [said for said in loading if said["phase"] == "Pulling"]
    progress = [
        said for said in pulling if re.fullmatch(rf"[\d,]+ of [\d,]+ bytes of {url}", said["message"])
    ]
    assert len(progress) >= 2, loading
    assert len(pulling) <= 6, "news of the same phase come every five seconds at most"
    assert any(f"0 of 1 pods ready: Pulling: {progress[-1]['message']}" in text for text in told)
    [entry] = kubectl.status("slow")["revisions"]
    assert "loading" not in entry
    assert [phase["phase"] for phase in entry["phases"]] == _PHASES
    took = {phase["phase"]: seconds(phase["took"]) for phase in entry["phases"]}
    assert 10 < took["Pulling"] < 60
    assert abs(seconds(entry["loadTime"]) - sum(took.values())) < 0.5
    version = kubectl.get("mdep", "slow")
    time.sleep(10)
    assert kubectl.get("mdep", "slow") == version, "one that serves costs no write"


def test_both_ports_lead_to_the_pods_that_serve(kubectl: Kubectl) -> None:
    slices = kubectl.list("endpointslices", "kubernetes.io/service-name=slow")
    ports = {port["name"]: (port["port"], port.get("appProtocol")) for s in slices for port in s["ports"]}
    assert ports == {"http": (8080, None), "grpc": (8081, "kubernetes.io/h2c")}
    assert [e["conditions"]["ready"] for s in slices for e in s["endpoints"]] == [True]
    [pod] = kubectl.list("pods")
    environment = {item["name"]: item.get("value") for item in pod["spec"]["containers"][0]["env"]}
    assert environment["PILOTHOUSE_BATCH_MAX_SIZE"] == "8"
    assert environment["PILOTHOUSE_ACCESS_LOG"] == "1"
    kubectl("delete", "mdep", "--all")
