"""Tells what a file or folder is, before any loader touches it, and what it is instead of a model."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Final

from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.engine.failures import unloadable
from pilothouse_runtime.engine.looks import Look, head_of, look_at
from pilothouse_runtime.engine.registry import BACKENDS

_EXPORT: Final = "export the model with torch.export.save (.pt2) or torch.jit.save (.pt)"
_ADDRESS: Final = (
    "let model.uri name the model file itself: a web server gives no folders, and pages for people"
)
_TAR: Final = (257, b"ustar")
_WORDS: Final = 80  # characters of an error page that are told
_ENDINGS: Final = (".pt2", ".pt", ".onnx", ".keras", ".safetensors")  # of models that are one file
_MAGIC: Final = (
    (b"\x89HDF", "an HDF5 file (h5py, or Keras before its .keras: load it there, and save it as one)"),
    (b"\x93NUMPY", "a single array (.npy)"),
    (b"GGUF", "a GGUF file (llama.cpp)"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"),
)
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]")


def locate(path: Path, wanted: Format) -> Path:
    """Return the model: a file or a folder as it is, but of a folder that is packed around one file, that file.

    Raises:
        LoadError: ModelLoadFailed; the folder holds what no model holds, or several models.
    """
    if not path.is_dir():
        return path
    look = look_at(path)
    if wanted is Format.PYTHON or any(backend.recognises(look) for backend in BACKENDS.values()):
        return path
    files = sorted(name for name in look.folder if "/" not in name and name.endswith(_ENDINGS))
    if len(files) > 1:
        raise unloadable(
            f"{path.name} holds several models, {', '.join(files)}; let model.uri name one of them"
        )
    if not files:
        raise unloadable(
            f"{path.name} is a folder of {len(look.folder)} files without a model in it: no file that ends in"
            f" {', '.join(_ENDINGS)}, and no folder of MLflow, TensorFlow or transformers"
        )
    return path / files[0]


def detect(path: Path, wanted: Format, content_type: str = "") -> Format:
    """Return the format of a model, after checking that its archive or folder is sane.

    Args:
        wanted: what the user says it is, or AUTO.
        content_type: what the server called it, for the message about an error page.
    Raises:
        LoadError: ModelLoadFailed; what the file is instead, and what to do.
    """
    look = look_at(path)
    if wanted is not Format.AUTO and BACKENDS[wanted].recognises(look):
        return wanted
    found = next((backend for backend in BACKENDS.values() if backend.recognises(look)), None)
    if found is None:
        raise _no_model(look, wanted, content_type)
    if wanted is not Format.AUTO:
        kind = "folder" if look.folder else "file"
        raise unloadable(f"{path.name}: model.format is {wanted}, but the {kind} is of format {found.format}")
    if found.by_name:
        raise unloadable(f"{path.name} {found.by_name}")
    return found.format


def _no_model(look: Look, wanted: Format, content_type: str) -> Exception:
    name = look.path.name
    if "serialized_exported_program.json" in look.archive:
        return unloadable(
            f"{name} was exported by an old version of torch; export it again with torch 2.8 or newer"
        )
    if look.is_archive:
        return unloadable(f"{name} is a zip archive, but not one that torch or Keras wrote; {_EXPORT}")
    if look.path.is_dir():
        return unloadable(f"{name} is a folder, but not of format {wanted}")
    asked = "" if wanted is Format.AUTO else f"model.format is {wanted}, but "
    advice = _ADDRESS if _is_markup(look.head) else _EXPORT
    return unloadable(f"{asked}{name} is no model but {describe(look.path, content_type)}; {advice}")


def describe(path: Path, content_type: str = "") -> str:
    """Return in words what a file looks like.

    Words of the file itself are told only from markup, such as a server's error page: other text may be a secret
    that the uri was pointed at.
    """
    head = head_of(path)
    if not head:
        return "an empty file"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive"
    if _PICKLE.match(head):
        return "a pickle (torch.save without zip, joblib or pickle), which could run any code and is never loaded"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    at, magic = _TAR
    if head[at:].startswith(magic):
        return "a tar archive: unpack it first"
    kind = f" ({content_type})" if content_type else ""
    if _is_markup(head):
        return f"a page of HTML or XML{kind} that says {_words(head)!r}"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return f"a binary file of unknown kind{kind}, beginning with {head[:8].hex(' ')}"
    return f"a text file{kind}"


def _is_markup(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def _words(markup: bytes) -> str:
    text = re.sub(
        r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", " ", markup.decode("utf-8-sig", "replace")
    )
    words = " ".join(html.unescape(text).split())
    return words if len(words) <= _WORDS else words[:_WORDS] + "…"
