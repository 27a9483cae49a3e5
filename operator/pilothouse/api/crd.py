"""The CustomResourceDefinition, made from the models: `python -m pilothouse.api.crd --write` or `--check`.

Three files, one content. Kubernetes before 1.25 knows no CEL rules and server-side apply refuses a CRD that holds
fields it does not know, so: one file with them, one without, and a chart template that asks the cluster.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from pilothouse.api import names
from pilothouse.api.schema import Schema, structural, without_cel, without_defaults
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.api.status import UNSEEN, ModelDeploymentStatus

CRD_NAME: Final = f"{names.PLURAL}.{names.GROUP}"
CRD_FILE: Final = "crds/modeldeployments.yaml"
LEGACY_CRD_FILE: Final = "crds/modeldeployments-kubernetes-1.20.yaml"
CHART_TEMPLATE: Final = "charts/pilothouse/templates/crd.yaml"

_READY = '.status.conditions[?(@.type=="Ready")]'
_COLUMNS: Final = (
    ("Ready", "string", f"{_READY}.status", "Whether the revision that the spec asks for serves.", 0),
    ("Status", "string", f"{_READY}.reason", "Why it is ready, or why it is not.", 0),
    ("Version", "string", ".status.stableVersion", "Version that serves.", 0),
    ("Target", "string", ".spec.model.version", "Version that the spec asks for.", 0),
    (
        "Weight",
        "integer",
        ".status.rollout.weightReached",
        "Percent of the requests that the target gets.",
        0,
    ),
    ("Replicas", "string", ".status.replicasSummary", "Ready pods of the pods asked for.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Since when the object exists.", 0),
    ("URI", "string", ".spec.model.uri", "Where the model comes from.", 1),
    ("Message", "string", f"{_READY}.message", "What people should know.", 1),
)
_MADE_BY = "# Made by `python -m pilothouse.api.crd --write` from the models in operator/pilothouse/api: do not edit.\n"


def crd() -> dict[str, Any]:
    """Return the CRD as Kubernetes from 1.25 on takes it (CEL rules came with that release)."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": names.LIST_KIND,
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": [names.CATEGORY],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                }
            ],
        },
    }


def legacy_crd() -> dict[str, Any]:
    """Return the same CRD as Kubernetes from 1.20 on takes it; the operator alone checks what CEL would."""
    legacy: dict[str, Any] = without_cel(crd())
    return legacy


def rendered() -> dict[str, str]:
    """Return the text of each file that is made from the models, by its path in the repository."""
    return {
        CRD_FILE: _MADE_BY + "# For Kubernetes 1.25 and newer.\n" + _yaml(crd()),
        LEGACY_CRD_FILE: _MADE_BY
        + "# For Kubernetes 1.20 to 1.24: the same without CEL rules.\n"
        + _yaml(legacy_crd()),
        CHART_TEMPLATE: _template(),
    }


def _schema() -> Schema:
    return {
        "type": "object",
        "description": "A trained model, served: one version at a time, safely replaced by the next.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {
                        "type": "string",
                        "pattern": names.NAME_PATTERN,
                        "maxLength": names.NAME_MAX_LENGTH,
                    }
                },
            },
            "spec": structural(ModelDeploymentSpec),
            "status": without_defaults(structural(ModelDeploymentStatus)) | {"default": UNSEEN},
        },
    }


def _column(name: str, kind: str, path: str, description: str, priority: int) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


class _Dumper(yaml.SafeDumper):
    """Writes everything out: an alias would save little and make the file hard to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(data: dict[str, Any]) -> str:
    text: str = yaml.dump(data, Dumper=_Dumper, width=10_000, sort_keys=True, allow_unicode=True)
    return text


def _template() -> str:
    """Return the chart's template: the CRD, its CEL rules only for a cluster that knows them."""
    text = _yaml(crd())
    if "{{" in text:
        raise ValueError("the CRD holds {{, which Helm would take for a template")
    lines: list[str] = []
    inside: str | None = None
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if inside is not None and not (line.startswith(f"{inside}- ") or len(indent) > len(inside)):
            lines.append(f"{inside}{{{{- end }}}}")
            inside = None
        if re.fullmatch(r" *x-kubernetes-validations:", line.removeprefix(indent)):
            lines.append(f'{indent}{{{{- if semverCompare ">=1.25-0" .Capabilities.KubeVersion.Version }}}}')
            inside = indent
        lines.append(line)
    metadata = (
        f"  name: {CRD_NAME}",
        "  labels:",
        '    {{- include "pilothouse.labels" . | nindent 4 }}',
        "  annotations:",
        "    # Uninstalling the chart must not delete every model: the CRD is removed by hand.",
        "    helm.sh/resource-policy: keep",
    )
    body = "\n".join(lines).replace(f"  name: {CRD_NAME}", "\n".join(metadata), 1)
    note = _MADE_BY.removeprefix("# ").strip()
    return f"{{{{- /* {note} */}}}}\n{{{{- if .Values.crds.install }}}}\n{body}\n{{{{- end }}}}\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or tell whether they are what the models say."""
    parser = argparse.ArgumentParser(
        prog="python -m pilothouse.api.crd", description=(__doc__ or "").splitlines()[0]
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument(
        "--check", action="store_true", help="exit with 1 and a diff where a file is out of date"
    )
    mode.add_argument("--write", action="store_true", help="write the files")
    parser.add_argument(
        "--root", type=Path, default=Path(), help="the repository (default: the current directory)"
    )
    options = parser.parse_args(arguments)
    stale = False
    for name, wanted in rendered().items():
        file = options.root / name
        if options.write:
            file.write_text(wanted)
            continue
        found = file.read_text() if file.exists() else ""
        difference = difflib.unified_diff(
            found.splitlines(True), wanted.splitlines(True), name, f"{name} (from the models)"
        )
        text = "".join(difference)
        stale = stale or bool(text)
        sys.stdout.write(text)
    if stale:
        sys.stderr.write(
            "error: out of date; run `python -m pilothouse.api.crd --write` and commit what it writes\n"
        )
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
