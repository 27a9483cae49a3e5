"""A cluster of the user's own: what is not done is said."""

from pathlib import Path

import pytest

from dev.cluster import Cluster
from dev.images import ensure
from dev.images.deliver import PREFIX_VARIABLE
from dev.images.recipe import OPERATOR


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(kubeconfig=tmp_path / "kubeconfig", host_address="192.0.2.1", has_node=True)


def test_without_a_registry_the_cluster_must_pull_and_the_user_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(PREFIX_VARIABLE, raising=False)
    version = OPERATOR.version
    assert ensure(cluster) == {
        "operator": f"docker.io/pilothouse/operator:{version}",
        "runtime": f"docker.io/pilothouse/runtime:{version}",
    }
    said = capsys.readouterr().err
    assert f"docker.io/pilothouse/operator:{version} and docker.io/pilothouse/runtime:{version}" in said
    assert PREFIX_VARIABLE in said
    assert "nothing is built" in said


def test_one_image_with_another_tag(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PREFIX_VARIABLE, raising=False)
    assert ensure(cluster, only="operator", tag="next") == {"operator": "docker.io/pilothouse/operator:next"}
