"""Finds the local path of a file or a folder by its uri, and checks its digest; downloads from open web servers."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pilothouse_runtime.contract import DRIFT_MOUNT, ENV_MODEL_URI, FETCHED_PREFIX, MODEL_MOUNT, FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import bad_setting
from pilothouse_runtime.digests import DigestError, digest_of
from pilothouse_runtime.engine.download import Download, DownloadPolicy, failed
from pilothouse_runtime.engine.fetched import read_record
from pilothouse_runtime.engine.formats import describe
from pilothouse_runtime.engine.space import told_when_full

log = logging.getLogger(__name__)

SCHEMES: Final = ("file", "http", "https", "pvc")
_NAME: Final = re.compile(r"[\w-][\w. +-]{0,99}")  # of a file, as any file system takes it


@dataclass(frozen=True)
class Source:
    """Where files come from and where downloads are kept; and for messages, who asked for them.

    Attributes:
        fetched_dir: where the fetch program has left what it brought (see `contract.FETCH_COMMAND`).
        uri_variable: the environment variable that holds the uri.
        spec_field: the field of the spec under which its user wrote uri and digest.
        drift_dir: stands for `fetched_dir` and `pvc_mount` of a data set for drift.
    """

    cache_dir: Path
    pvc_mount: Path
    policy: DownloadPolicy = field(default_factory=DownloadPolicy)
    uri_variable: str = ENV_MODEL_URI
    spec_field: str = "model"
    fetched_dir: Path = Path(MODEL_MOUNT)
    drift_dir: Path = Path(DRIFT_MOUNT)


@dataclass(frozen=True)
class LocalFile:
    """A local file or folder.

    Attributes:
        content_type: what a server called it, or "".
        seconds: how long another program, which is not timed here, took to bring it.
    """

    path: Path
    content_type: str = ""
    seconds: float = 0


def fetch(uri: str, digest: str | None, source: Source, tell: Callable[[str], None]) -> LocalFile:
    """Return the file or folder at `uri`, whose digest has been found to be `digest` if one is given.

    A download is kept under its digest: a container that starts again in the same pod finds it there.

    Args:
        uri: file:///path, pvc://claim/path (the claim is mounted at `source.pvc_mount`), http:// or https://, or any
            other that has been fetched to `source.fetched_dir` already, after `contract.FETCHED_PREFIX`.
        digest: 64 hexadecimal digits; see `pilothouse_runtime.digests`.
        tell: is given, for people, what is going on.
    Raises:
        LoadError: InvalidConfiguration, ModelDownloadFailed or DigestMismatch.
    """
    if uri.startswith(FETCHED_PREFIX):
        return _fetched(uri, digest, source, tell)
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        rule = f"its scheme must be one of {', '.join(SCHEMES)}; others are for python -m pilothouse_runtime.fetch"
        raise bad_setting(source.uri_variable, rule)
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
        verify(file, digest, source.spec_field)
    return file


def _fetched(uri: str, digest: str | None, source: Source, tell: Callable[[str], None]) -> LocalFile:
    tell(f"taking what was fetched to {source.fetched_dir}")
    record = read_record(source.fetched_dir)
    if record is None or (digest and record.digest != digest):
        name = uri.removeprefix(FETCHED_PREFIX)
        raise failed(
            f"{name} is not at {source.fetched_dir}: the init container has not brought it", permanent=False
        )
    return LocalFile(source.fetched_dir / record.path, record.content_type, record.seconds)


def _on_claim(claim: str, name: str, source: Source) -> Path:
    path = source.pvc_mount / name.lstrip("/")
    # A link must not lead out of the volume: parts of a file of the wrong kind may be told to who applied the uri.
    if not claim or not path.resolve().is_relative_to(source.pvc_mount.resolve()):
        raise bad_setting(
            source.uri_variable, "pvc:// takes a claim and a path on it, as in pvc://models/digits.pt"
        )
    for inner in _links_below(path):
        if not inner.resolve().is_relative_to(source.pvc_mount.resolve()):
            raise bad_setting(
                source.uri_variable, f"{inner.name} in the folder is a link that leads out of the claim"
            )
    return _existing(path, source, permanent=False)


def _links_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if (path := Path(parent, name)).is_symlink())


def _existing(path: Path, source: Source, *, permanent: bool) -> Path:
    todo = f"check {source.spec_field}.uri"
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            os.scandir(path).close()
        elif stat.S_ISREG(mode):
            path.open("rb").close()
        else:  # to open a pipe would be to wait for whoever writes to it
            raise failed(f"{path} is neither a file nor a folder; {todo}", permanent=permanent)
    except PermissionError as error:
        told = f"{path}: {error.strerror} for user {os.geteuid()}, as whom this runs"
        raise failed(
            f"{told}; let all read it (chmod -R a+rX), and the folders above it", permanent=permanent
        ) from None
    except OSError as error:
        raise failed(f"{path}: {error.strerror}; {todo}", permanent=permanent) from None
    return path


def _downloaded(url: str, digest: str | None, source: Source, tell: Callable[[str], None]) -> LocalFile:
    # Messages name the file as its user does.
    kept = source.cache_dir / (f"sha256-{digest}" if digest else "unchecked") / _name_in(url)
    if digest and kept.exists():
        if digest_of(kept) == f"sha256:{digest}":
            log.info("the file is in the cache already: %s", kept)
            return LocalFile(kept)
        kept.unlink()
    part = source.cache_dir / "download.part"
    try:
        source.cache_dir.mkdir(parents=True, exist_ok=True)
        with told_when_full(source.cache_dir, "what was downloaded"):
            content_type = Download(url, part, source.policy, tell, f"{source.spec_field}.uri").run()
        log.info("downloaded %d bytes", part.stat().st_size)
        if digest:
            tell("checking the sha256 of what was downloaded")
            verify(LocalFile(part, content_type), digest, source.spec_field)
        kept.parent.mkdir(exist_ok=True)
        part.replace(kept)
    except OSError as error:
        raise failed(f"cannot write to {source.cache_dir}: {error.strerror}", permanent=False) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return LocalFile(kept, content_type)


def _name_in(url: str) -> str:
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return name if _NAME.fullmatch(name) else "model"


def verify(file: LocalFile, digest: str, spec_field: str) -> None:
    """Raise LoadError (DigestMismatch) unless a file or folder has this digest, of 64 hexadecimal digits.

    Args:
        spec_field: the field of the spec under which its user wrote uri and digest, for messages.
    """
    try:
        actual = digest_of(file.path)
    except DigestError as error:
        told = f"the folder has no digest to compare with {spec_field}.digest: {error}"
        raise LoadError(FailureReason.DIGEST_MISMATCH, told, permanent=True) from None
    if actual != f"sha256:{digest}":
        kind = "folder" if file.path.is_dir() else "file"
        what = "" if file.path.is_dir() else f". What came is {describe(file.path, file.content_type)}"
        raise LoadError(
            FailureReason.DIGEST_MISMATCH,
            f"the {kind} has {actual}, but {spec_field}.digest is sha256:{digest}; either the {kind}"
            f" was changed or the digest is another {kind}'s{what}",
            permanent=True,
        )
