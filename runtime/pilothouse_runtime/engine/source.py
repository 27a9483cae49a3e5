"""Brings a file to a local path, whatever its uri, and checks its digest."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pilothouse_runtime.contract import ENV_MODEL_URI, FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import bad_setting
from pilothouse_runtime.digests import DigestError, digest_of
from pilothouse_runtime.engine.download import Download, DownloadPolicy, failed
from pilothouse_runtime.engine.formats import describe

log = logging.getLogger(__name__)

SCHEMES: Final = ("file", "http", "https", "pvc")


@dataclass(frozen=True)
class Source:
    """Where files come from and where downloads are kept; and for messages, who asked for them.

    Attributes:
        uri_variable: the environment variable that holds the uri.
        spec_field: the field of the spec under which its user wrote uri and digest.
    """

    cache_dir: Path
    pvc_mount: Path
    policy: DownloadPolicy = field(default_factory=DownloadPolicy)
    uri_variable: str = ENV_MODEL_URI
    spec_field: str = "model"


@dataclass(frozen=True)
class LocalFile:
    """A local file; `content_type` is what a server called it, or ""."""

    path: Path
    content_type: str = ""


def fetch(uri: str, digest: str | None, source: Source, tell: Callable[[str], None]) -> LocalFile:
    """Return the file at `uri`, whose sha256 has been found to be `digest` if one is given.

    A download is kept under its digest: a container that starts again in the same pod finds it there.

    Args:
        uri: file:///path, pvc://claim/path (the claim is mounted at `source.pvc_mount`), http:// or https://.
        tell: is given, for people, what is going on.
    Raises:
        LoadError: InvalidConfiguration, ModelDownloadFailed or DigestMismatch.
    """
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        raise bad_setting(source.uri_variable, f"its scheme must be one of {', '.join(SCHEMES)}")
    if parts.scheme in ("http", "https"):
        if not parts.hostname or parts.username is not None:
            raise bad_setting(source.uri_variable, "must name a host, and no user or password")
        return _downloaded(uri, digest, source, tell)
    if parts.scheme == "file":
        if parts.netloc:
            raise bad_setting(
                source.uri_variable, "file:// takes an absolute path, as in file:///models/digits.pt"
            )
        file = LocalFile(_existing(Path(unquote(parts.path)), source, permanent=True))
    else:
        file = LocalFile(_on_claim(parts.netloc, unquote(parts.path), source))
    if digest:
        tell(f"checking the sha256 of {file.path}")
        _verify(file, digest, source)
    return file


def _on_claim(claim: str, name: str, source: Source) -> Path:
    path = source.pvc_mount / name.lstrip("/")
    # A link must not lead out of the volume: parts of a file of the wrong kind may be told to who applied the uri.
    if not claim or not path.resolve().is_relative_to(source.pvc_mount.resolve()):
        raise bad_setting(
            source.uri_variable, "pvc:// takes a claim and a path on it, as in pvc://models/digits.pt"
        )
    return _existing(path, source, permanent=False)


def _existing(path: Path, source: Source, *, permanent: bool) -> Path:
    try:
        if path.is_dir():
            os.scandir(path).close()
        else:
            path.open("rb").close()
    except OSError as error:
        raise failed(
            f"{path}: {error.strerror}; check {source.spec_field}.uri", permanent=permanent
        ) from None
    return path


def _downloaded(url: str, digest: str | None, source: Source, tell: Callable[[str], None]) -> LocalFile:
    kept = source.cache_dir / (f"sha256-{digest}" if digest else "model")
    if digest and kept.exists():
        if sha256_of(kept) == digest:
            log.info("the file is in the cache already: %s", kept)
            return LocalFile(kept)
        kept.unlink()
    part = source.cache_dir / "download.part"
    try:
        source.cache_dir.mkdir(parents=True, exist_ok=True)
        content_type = Download(url, part, source.policy, tell, f"{source.spec_field}.uri").run()
        log.info("downloaded %d bytes", part.stat().st_size)
        if digest:
            tell("checking the sha256 of what was downloaded")
            _verify(LocalFile(part, content_type), digest, source)
        part.replace(kept)
    except OSError as error:
        raise failed(f"cannot write to {source.cache_dir}: {error.strerror}", permanent=False) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return LocalFile(kept, content_type)


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(file: LocalFile, digest: str, source: Source) -> None:
    try:
        actual = digest_of(file.path)
    except DigestError as error:
        told = f"the folder has no digest to compare with {source.spec_field}.digest: {error}"
        raise LoadError(FailureReason.DIGEST_MISMATCH, told, permanent=True) from None
    if actual != f"sha256:{digest}":
        kind = "folder" if file.path.is_dir() else "file"
        what = "" if file.path.is_dir() else f". What came is {describe(file.path, file.content_type)}"
        raise LoadError(
            FailureReason.DIGEST_MISMATCH,
            f"the {kind} has {actual}, but {source.spec_field}.digest is sha256:{digest}; either the {kind}"
            f" was changed or the digest is another {kind}'s{what}",
            permanent=True,
        )
