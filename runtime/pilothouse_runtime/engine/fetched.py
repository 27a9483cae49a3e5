"""What the fetch program leaves beside a model that it brought, for the program that loads it in another container."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_NAME: Final = "fetched.json"


@dataclass(frozen=True)
class Record:
    """What was brought.

    Attributes:
        path: of the file or folder, below the folder that holds the record.
        digest: that it was found to have, in hexadecimal digits; None where none was asked for.
        content_type: what a server called it, or "".
        seconds: how long it took.
    """

    path: str
    digest: str | None
    content_type: str
    seconds: float


def write_record(folder: Path, record: Record) -> None:
    """Write the record: from now on what it tells of counts as brought. Raises OSError."""
    part = folder / f"{_NAME}.part"
    with part.open("w") as file:
        json.dump(asdict(record), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / _NAME)


def read_record(folder: Path) -> Record | None:
    """Return the record in a folder, or None where nothing was brought, or is there any more."""
    try:
        record = Record(**json.loads((folder / _NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if (folder / record.path).exists() else None
