"""Packed folders: the manifest says which file is the model, of which format it is, and how it is to be served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.manifest import MANIFEST_FILE, Manifest, ManifestError, parse_manifest
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.signature import SignatureError, reconcile
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.digests import digest_of
from pilothouse_runtime.engine.failures import unloadable
from pilothouse_runtime.engine.model import SPEC_FIELDS
from pilothouse_runtime.engine.registry import BACKENDS

_MOST_BYTES: Final = 16 * 1024 * 1024  # of a manifest, which is read whole


@dataclass(frozen=True)
class Chosen:
    """What is to be loaded, from the spec and, in a packed folder, its manifest."""

    path: Path
    format: Format
    signature: Signature | None
    declared_by: str = SPEC_FIELDS  # for messages


def choose(path: Path, wanted: Format, declared: Signature | None, *, verified: bool) -> Chosen:
    """Return what to load: of a packed folder its model, of anything else the thing itself.

    The spec may narrow what a manifest says, as it may what a model file says; it must not contradict it.

    Args:
        path: of a file or a folder.
        declared: the user's signature, if any.
        verified: the folder's digest has been checked; else the model's is, against the manifest.
    Raises:
        LoadError: ModelLoadFailed or DigestMismatch; names the file and the field.
    """
    if not path.is_dir() or not (path / MANIFEST_FILE).is_file():
        return Chosen(path, wanted, declared)
    manifest = _manifest(path)
    if wanted not in (Format.AUTO, manifest.format):
        raise unloadable(f"{path.name}: model.format is {wanted}, but {MANIFEST_FILE} says {manifest.format}")
    try:
        found = BACKENDS[Format(manifest.format)].format
    except (ValueError, KeyError):
        raise unloadable(
            f"{path.name}: {MANIFEST_FILE} says format {manifest.format!r}, which this release does not know"
        ) from None
    if BACKENDS[found].by_name and wanted is Format.AUTO:
        why = BACKENDS[found].by_name
        raise unloadable(
            f"{path.name}: {MANIFEST_FILE} says format {found}, which is never loaded unasked: {why}"
        )
    try:
        signature = reconcile(declared, manifest.signature, names_made_up=False)
    except SignatureError as error:
        raise unloadable(f"{path.name}: {SPEC_FIELDS} contradict {MANIFEST_FILE}: {error}") from None
    model = path / manifest.model
    if model.is_symlink() or not model.is_file():
        raise unloadable(
            f"{path.name}: {MANIFEST_FILE} names the model {manifest.model}, which is no file there"
        )
    if not verified and (actual := digest_of(model)) != manifest.files[manifest.model]:
        raise LoadError(
            FailureReason.DIGEST_MISMATCH,
            f"{path.name}/{manifest.model} has {actual}, but {MANIFEST_FILE} says {manifest.files[manifest.model]}:"
            " the file was changed or is not whole; pack the model again, or copy the folder again",
            permanent=True,
        )
    return Chosen(
        model, found, signature, SPEC_FIELDS if declared else f"inputs and outputs in {MANIFEST_FILE}"
    )


def _manifest(folder: Path) -> Manifest:
    file = folder / MANIFEST_FILE
    if file.is_symlink() or file.stat().st_size > _MOST_BYTES:
        raise unloadable(f"{folder.name}: {MANIFEST_FILE} is a symbolic link, or longer than any manifest")
    try:
        return parse_manifest(file.read_bytes())
    except ManifestError as error:
        raise unloadable(f"{folder.name}: {MANIFEST_FILE} {error}") from None
    except OSError as error:
        raise unloadable(f"{folder.name}: {MANIFEST_FILE}: {error.strerror}", permanent=False) from None
