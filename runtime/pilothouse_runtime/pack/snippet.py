"""A ModelDeployment to paste, as YAML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pilothouse_runtime.core.manifest import GOLDEN_FILE, Manifest
from pilothouse_runtime.core.profiles import MIN_ROWS
from pilothouse_runtime.core.tensors import TensorSpec

_PLACEHOLDER: Final = "pvc://models"  # a claim; whoever pastes it knows where the folder will be

_WHY: Final = {"aotinductor": "  # native code: loaded only where it is named here"}


@dataclass(frozen=True)
class Gate:
    """A metric of the golden data set and its bound: `side` is min or max."""

    metric: str
    side: str
    bound: float


def deployment(name: str, version: str, digest: str, manifest: Manifest, gate: Gate | None, rows: int) -> str:
    """Return the YAML of a ModelDeployment that serves a packed folder.

    Args:
        digest: of the folder.
        gate: of its golden data set, if it has one.
        rows: of that. Where drift can be told from so many, what would switch it on is there as a comment.
    """
    uri = f"{_PLACEHOLDER}/{name}/{version}"
    lines = [
        "apiVersion: pilothouse.dev/v1alpha1",
        "kind: ModelDeployment",
        "metadata:",
        f"  name: {name}",
        "spec:",
        "  model:",
        f"    uri: {json.dumps(uri)}  # change it to where you put the folder",
        f"    version: {json.dumps(version)}",
        f"    digest: {digest}",
        f"    format: {manifest.format}{_WHY.get(manifest.format, '')}",
        *_tensors("inputs", manifest.signature.inputs),
        *_tensors("outputs", manifest.signature.outputs),
    ]
    if gate:
        golden = f"{uri}/{GOLDEN_FILE}"
        lines += _drift(golden, manifest.files[GOLDEN_FILE]) if rows >= MIN_ROWS else []
        lines += [
            "  rollout:",
            "    validation:  # before any request: the folder's own golden data set",
            f"      uri: {json.dumps(golden)}",
            f"      digest: {manifest.files[GOLDEN_FILE]}",
            f"      metric: {gate.metric}",
            f"      {gate.side}: {gate.bound:.10g}",
        ]
    return "\n".join(lines) + "\n"


def _drift(uri: str, digest: str) -> list[str]:
    return [
        "  # runtime:",
        "  #   drift:  # compares the requests with the same data set, once these lines are no comment",
        f"  #     uri: {json.dumps(uri)}",
        f"  #     digest: {digest}",
    ]


def _tensors(field: str, specs: Sequence[TensorSpec]) -> list[str]:
    return [
        f"    {field}:",
        *(
            f"    - {{name: {json.dumps(spec.name)}, datatype: {spec.datatype}, shape: {list(spec.shape)}}}"
            for spec in specs
        ),
    ]
