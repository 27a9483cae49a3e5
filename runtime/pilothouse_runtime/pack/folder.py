"""The folder that is written: complete or not at all, and never in the place of somebody else's files."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pilothouse_runtime.core.errors import PackError
from pilothouse_runtime.core.manifest import MANIFEST_FILE, ManifestError, parse_manifest


def check_target(folder: Path, *, force: bool) -> None:
    """Check that a folder may be written: it is not there, is empty, holds what was packed before, or `force`.

    Raises:
        PackError: says what is in the way.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise PackError(f"folder: {folder} is there and is no folder")
    if not folder.exists():
        return
    if Path.cwd().is_relative_to(folder.resolve()):
        raise PackError(f"folder: {folder} holds the current directory; give a folder of its own")
    names = {path.name for path in folder.iterdir()}
    strange = sorted(names - _packed_names(folder))
    if strange and not force:
        told = ", ".join(strange[:5]) + (", ..." if strange[5:] else "")
        raise PackError(
            f"folder: {folder} holds {told}, which pack did not write; give another folder, or force=True (--force) to"
            " delete what is there"
        )


def _packed_names(folder: Path) -> set[str]:
    """Return the names of files that the folder's manifest says were packed."""
    try:
        return {MANIFEST_FILE, *parse_manifest((folder / MANIFEST_FILE).read_bytes()).files}
    except (OSError, ManifestError):
        return set()


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `folder` when the block ends well, and is deleted when it does not.

    Raises:
        PackError: the file system does not take it.
    """
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise PackError(f"folder: cannot write {folder}: {error.strerror}") from None
    try:
        yield stage
        stage.chmod(0o755)  # mkdtemp's is for its maker only
        if folder.exists():
            old = stage.with_name(f"{stage.name}.old")
            folder.rename(old)
            try:
                stage.rename(folder)
            except OSError:
                old.rename(folder)
                raise
            shutil.rmtree(old)
        else:
            stage.rename(folder)
    except OSError as error:
        raise PackError(f"folder: cannot write {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        with contextlib.suppress(OSError):  # what is not empty holds the folder, or is not ours any more
            for parent in made:
                parent.rmdir()
