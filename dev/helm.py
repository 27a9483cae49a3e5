"""Helm 4 without its command line tool: what the demo and the tests need of it, through Helm's own Go SDK.

`shown` prints the command that a user would type for the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from helm_python import Chart, Config, HelmError
from helm_python import lint as lint_chart

from dev.shell import show

__all__ = ["HelmError", "install", "lint", "template", "uninstall"]

Values = Mapping[str, Any]
# Helm 4's own way of waiting, by kstatus: until everything is Current, or at once when something has Failed.
_WAIT: Final = "watcher"


def install(
    release: str,
    chart: Path,
    *,
    namespace: str,
    kubeconfig: Path,
    values: Values | None = None,
    wait: bool = True,
    timeout: float = 180,
    shown: bool = False,
) -> dict[str, Any]:
    """Install a chart, or upgrade the release that is there already; return Helm's summary of the release.

    Args:
        release: name of the release.
        chart: folder of the chart.
        namespace: where to install it; made where it does not exist.
        kubeconfig: how to reach the cluster.
        values: what differs from the chart's defaults.
        wait: whether to wait until everything is ready.
        timeout: for how long, in seconds.
        shown: whether to print the command.

    Raises:
        HelmError: the chart is refused, or not ready in time, or has failed for good.
    """
    values = dict(values or {})
    if shown:
        flags = ["--wait", f"--timeout={timeout:.0f}s"] if wait else []
        target = ["--namespace", namespace, "--create-namespace"]
        show(["helm", "upgrade", "--install", release, _short(chart), *target, *_flags(values), *flags])
    how: dict[str, Any] = {"timeout": round(timeout), "wait": _WAIT if wait else None, "namespace": namespace}
    with Config(kubeconfig_path=kubeconfig, namespace=namespace) as helm:
        if any(found["name"] == release for found in helm.list(all_states=True)):
            return helm.upgrade(chart, release, values, **how)
        return helm.install(chart, release, values, create_namespace=True, **how)


def uninstall(
    release: str, *, namespace: str, kubeconfig: Path, timeout: float = 180, shown: bool = False
) -> None:
    """Uninstall a release, and wait until what belongs to it is gone; well enough where there is none.

    Raises:
        HelmError: something could not be deleted in time.
    """
    if shown:
        show(["helm", "uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait"])
    with Config(kubeconfig_path=kubeconfig, namespace=namespace) as helm:
        helm.uninstall(release, ignore_not_found=True, wait=_WAIT, timeout=round(timeout))


def template(
    chart: Path, *, release: str = "pilothouse", namespace: str = "default", values: Values | None = None
) -> list[dict[str, Any]]:
    """Render a chart offline, for the Kubernetes that Helm itself is built for; return the objects.

    Raises:
        HelmError: the values break the chart's schema, or a template cannot be rendered.
    """
    with Chart.load(chart) as loaded:
        files = loaded.render(dict(values or {}), name=release, namespace=namespace)
    texts = (text for name, text in sorted(files.items()) if name.endswith((".yaml", ".yml")))
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def lint(chart: Path, *, values: Values | None = None, kubernetes: str | None = None) -> list[str]:
    """Return what `helm lint --strict` finds wrong (warnings and errors), for a version such as "v1.20.2"."""
    report = lint_chart(chart, dict(values or {}), strict=True, kube_version=kubernetes)
    warning = 2
    found = [m for m in report["messages"] if m["severity"] >= warning]
    return [*(f"{m['path']}: {m['error']}" for m in found), *map(str, report["errors"])]


def _flags(values: Values, path: Sequence[str] = ()) -> Iterator[str]:
    """Yield the flags that set `values` on Helm's command line."""
    for key, value in values.items():
        where = [*path, key.replace(".", "\\.")]
        if isinstance(value, Mapping) and value:
            yield from _flags(value, where)
        elif isinstance(value, str):
            yield from ("--set-string", f"{'.'.join(where)}={value}")
        else:
            yield from ("--set-json", f"{'.'.join(where)}={json.dumps(value)}")


def _short(chart: Path) -> str:
    here = Path.cwd()
    return str(chart.relative_to(here) if chart.is_relative_to(here) else chart)
