"""The manifest of a packed model: the file pilothouse.json in its folder, and the rules of what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pilothouse_runtime.core.signature import SignatureError, parse_signature
from pilothouse_runtime.core.tensors import Signature, TensorSpec

MANIFEST_FILE: Final = "pilothouse.json"
GOLDEN_FILE: Final = "golden.npz"  # beside it, where samples were packed
_VERSION: Final = 1
# A name and no path: a manifest must not lead out of its folder.
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


# Of a ModelDeployment; the operator's limit is below Kubernetes' own, since names of its children are longer.
NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?")
_NUMBER: Final = re.compile(r"v?[0-9][0-9.]*")


class ManifestError(ValueError):
    """A manifest is malformed; the message names the field and its rule."""


@dataclass(frozen=True)
class Manifest:
    """What pilothouse.json says.

    Attributes:
        model: name of the model's file in the folder.
        format: as `model.format` of a ModelDeployment has it.
        signature: inputs and outputs, as the model is to be served.
        files: sha256:... by name, of every file of the folder but the manifest itself.
        preprocessing: for people, what has to be done with data before it is sent; "" where the model does all of it.
        packed: for people, from what and with which libraries.
    """

    model: str
    format: str
    signature: Signature
    files: Mapping[str, str]
    preprocessing: str = ""
    packed: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> str:
        """Return the text of the file."""
        document = {
            "manifest": _VERSION,
            "model": self.model,
            "format": self.format,
            "inputs": [fields_of(spec) for spec in self.signature.inputs],
            "outputs": [fields_of(spec) for spec in self.signature.outputs],
            "preprocessing": self.preprocessing,
            "files": dict(sorted(self.files.items())),
            "packed": dict(self.packed),
        }
        return json.dumps(document, indent=2) + "\n"


def name_and_version(path: Path) -> tuple[str, str]:
    """Return how a model at a path is called where nobody says it: digits and 2 for digits/2, else its name and 1."""
    whole = path.absolute()
    numbered = _NUMBER.fullmatch(whole.name) is not None
    stem = whole.parent.name if numbered else whole.stem if whole.is_file() else whole.name
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return name if NAME.fullmatch(name) else "model", whole.name if numbered else "1"


def fields_of(spec: TensorSpec) -> dict[str, Any]:
    """Return an input or output as manifests, signatures and the spec of a ModelDeployment write it."""
    return {"name": spec.name, "datatype": str(spec.datatype), "shape": list(spec.shape)}


def parse_manifest(text: str | bytes) -> Manifest:
    """Read the text of a manifest; fields that it does not know are left to later releases.

    Raises:
        ManifestError: says which field breaks which rule.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ManifestError("must be a JSON object")
    if data.get("manifest") != _VERSION:
        raise ManifestError(f"manifest: must be {_VERSION}, the version that this runtime reads")
    model = data.get("model")
    if not isinstance(model, str) or not _FILE_NAME.fullmatch(model):
        raise ManifestError("model: must be the name of a file in this folder")
    try:
        signature = parse_signature(text)
    except SignatureError as error:
        raise ManifestError(str(error)) from None
    files = _texts(data, "files")
    for name, digest in files.items():
        if not _FILE_NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
            raise ManifestError("files: must map names of files in this folder to sha256:<64 hex digits>")
    if model not in files:
        raise ManifestError(f"files: must hold the digest of {model}, which is the model")
    return Manifest(
        model=model,
        format=_text(data, "format"),
        signature=signature,
        files=files,
        preprocessing=_text(data, "preprocessing"),
        packed=_texts(data, "packed"),
    )


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name, "")
    if not isinstance(value, str):
        raise ManifestError(f"{name}: must be a text")
    return value


def _texts(data: dict[str, Any], name: str) -> dict[str, str]:
    value = data.get(name, {})
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ManifestError(f"{name}: must be an object of texts")
    return value
