"""`python -m pilothouse.api.crd`: writes the files, and notices when they are out of date."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.api import crd


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in crd.rendered():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path


def test_what_was_written_is_up_to_date(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--write", "--root", str(root)]) == 0
    assert crd.main(["--check", "--root", str(root)]) == 0
    assert capsys.readouterr().out == ""


def test_a_changed_or_missing_file_is_shown_and_fails(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crd.main(["--write", "--root", str(root)])
    file = root / crd.LEGACY_CRD_FILE
    file.write_text(file.read_text().replace("shortNames", "longNames"))
    (root / crd.CRD_FILE).unlink()
    assert crd.main(["--check", "--root", str(root)]) == 1
    said = capsys.readouterr()
    assert "-    longNames:" in said.out
    assert "+    shortNames:" in said.out
    assert f"--- {crd.CRD_FILE}" in said.out
    assert "crd --write" in said.err


def test_one_of_the_two_must_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        crd.main([])
    assert "--check --write" in capsys.readouterr().err
