"""A program that fails is quoted; one that works leaves its words in the log."""

import sys
from pathlib import Path

import pytest

from dev.images.errors import ImageError
from dev.images.tools import Tools


def _python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def test_what_a_program_says_is_logged(tmp_path: Path) -> None:
    tools = Tools(tmp_path / "log")
    tools.run(*_python("print('first')"))
    tools.run(*_python("import sys; print('second', file=sys.stderr)"))
    words = [line for line in tools.log.read_text().splitlines() if not line.startswith("$ ")]
    assert words == ["first", "second"]


def test_a_failure_names_the_program_and_quotes_its_last_lines_alone(tmp_path: Path) -> None:
    tools = Tools(tmp_path / "log")
    tools.run(*_python("print('of another program')"))
    with pytest.raises(ImageError) as caught:
        tools.run(*_python("[print('line', i) for i in range(100)]; raise SystemExit(3)"))
    message = str(caught.value)
    assert sys.executable in message
    assert "status 3" in message
    assert "line 99" in message
    assert "line 9\n" not in message
    assert "another" not in message
    assert str(tools.log) in message


def test_output_is_read_apart_from_complaints(tmp_path: Path) -> None:
    tools = Tools(tmp_path / "log")
    assert tools.read(*_python("import sys; print('data'); print('noise', file=sys.stderr)")) == "data\n"
    with pytest.raises(ImageError, match="no such thing"):
        tools.read(*_python("raise SystemExit('no such thing')"))
