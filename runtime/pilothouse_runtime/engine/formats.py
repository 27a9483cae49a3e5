"""Tells what a file is from its first bytes and its table of contents, before any loader touches it."""

from __future__ import annotations

import html
import re
import zipfile
from pathlib import Path
from typing import Final

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format

_EXPORT: Final = "export the model with torch.export.save (.pt2) or torch.jit.save (.pt)"
_HEAD: Final = 2048
_WORDS: Final = 80  # characters of an error page that are told
# Archives of torch are hardly compressed: only code and debug tables are.
_EXPANSION: Final = 8
_SMALL: Final = 64 * 1024 * 1024  # bytes; what any archive may expand to
_MAGIC: Final = (
    (b"\x89HDF", "an HDF5 file (Keras or h5py)"),
    (b"\x93NUMPY", "a single array (.npy)"),
    (b"GGUF", "a GGUF file (llama.cpp)"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"),
)
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]")


def unloadable(message: str, *, permanent: bool = True) -> LoadError:
    """Return the failure of a file that cannot be served as a model."""
    return LoadError(FailureReason.MODEL_LOAD_FAILED, message, permanent=permanent)


def detect(path: Path, wanted: Format, content_type: str = "") -> Format:
    """Return the format of a model file, after checking that its archive is sane.

    Args:
        wanted: what the user says it is, or AUTO.
        content_type: what the server called it, for the message about an error page.
    Raises:
        LoadError: ModelLoadFailed; what the file is instead, and what to do.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(b"PK\x03\x04"):
        raise unloadable(f"{path.name} is no model but {describe(path, content_type)}; {_EXPORT}")
    names = _checked_names(path)
    found = _format_of(path, names)
    if wanted not in (Format.AUTO, found):
        raise unloadable(f"{path.name}: model.format is {wanted}, but the file is of format {found}")
    return found


def describe(path: Path, content_type: str = "") -> str:
    """Return in words what a file looks like.

    Words of the file itself are told only from markup, such as a server's error page: other text may be a secret
    that the uri was pointed at.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "an empty file"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive"
    if _PICKLE.match(head):
        return "a pickle (torch.save without zip, joblib or pickle), which could run any code and is never loaded"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    kind = f" ({content_type})" if content_type else ""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return f"a page of HTML or XML{kind} that says {_words(head)!r}"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return f"a binary file of unknown kind{kind}, beginning with {head[:8].hex(' ')}"
    return f"a text file{kind}"


def _words(markup: bytes) -> str:
    text = re.sub(
        r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", " ", markup.decode("utf-8-sig", "replace")
    )
    words = " ".join(html.unescape(text).split())
    return words if len(words) <= _WORDS else words[:_WORDS] + "…"


def _checked_names(path: Path) -> list[str]:
    """Return the names in the archive, without the folder that holds them all in what torch writes."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise unloadable(
            f"{path.name} is a broken archive of {size:,} bytes ({error}): is it cut off?"
        ) from None
    names = [entry.filename for entry in entries]
    for name in names:
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise unloadable(f"{path.name}: the archive holds the name {name!r}, which leads out of it")
    if len(set(names)) != len(names):
        raise unloadable(f"{path.name}: the archive holds the same name twice")
    expanded = sum(entry.file_size for entry in entries)
    if expanded > max(_SMALL, _EXPANSION * size):
        raise unloadable(f"{path.name}: {size:,} bytes would expand to {expanded:,}: no model does that")
    one_folder = len({name.split("/", 1)[0] for name in names}) == 1
    return [name.partition("/")[2] for name in names] if one_folder else names


def _format_of(path: Path, names: list[str]) -> Format:
    has_code = any(name.startswith("code/") for name in names)
    if "constants.pkl" in names and "data.pkl" in names and has_code:
        return Format.TORCHSCRIPT
    if any(name.startswith("data/aotinductor/") for name in names):
        raise unloadable(
            f"{path.name} holds native code (AOTInductor), which is never loaded; use torch.export.save"
        )
    if "archive_format" in names and "models/model.json" in names:
        return Format.EXPORTED
    if "data.pkl" in names:
        raise unloadable(
            f"{path.name} was written by torch.save: weights or objects without their code, in a pickle that could"
            f" run any code and is never loaded; {_EXPORT}"
        )
    if "serialized_exported_program.json" in names:
        raise unloadable(
            f"{path.name} was exported by an old version of torch; export it again with torch 2.8 or newer"
        )
    raise unloadable(f"{path.name} is a zip archive, but not one that torch wrote; {_EXPORT}")
