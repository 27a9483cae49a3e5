"""Who may not build is told so before anything is touched."""

import os
from pathlib import Path

import pytest

from dev.images import ImageError, build


def test_others_than_root_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError, match=r"built by root \(you are user 1000\): run `sudo .*docs/images\.md"):
        build()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_image_is_refused() -> None:
    with pytest.raises(ValueError, match="'router'"):
        build("router")
