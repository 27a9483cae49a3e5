"""Sizes as honest exports write them, and what else could stand there."""

from __future__ import annotations

import pytest

from pilothouse_runtime.engine.backends.exported_check import (
    UnsafeProgramError,
    check_expression,
    checked_program,
)


@pytest.mark.parametrize(
    "text",
    [
        "s0",
        "2*s0",
        "2*s0 + 1",
        "(s0 - 1)//2",
        "-s0 % 3",
        "s0**2 <= 16",
        "Symbol('s40', positive=True, integer=True)",
        "Mul(Integer(2), Symbol('s40', integer=True))",
        "FloorDiv(Add(Symbol('s0', integer=True), Integer(-1)), Integer(2))",
        "Float('0.5', precision=53)",
        "Max(s0, s1)",
        "Equality(Mod(s0, 2), 0)",
    ],
)
def test_arithmetic(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s0;",
        "__import__('os')",
        "__class__",
        "s0.__class__",
        "s0.subs",
        "().__class__",
        "[s for s in ()]",
        "lambda: 0",
        "eval('1')",
        "S('1')",
        "sympify('1')",
        "Symbol('s0', evaluate=eval('1'))",
        "Symbol(__import__('os').name)",
        "Symbol('a b')",
        "Symbol('s0')('x')",
        "Add('__import__(1)', 1)",
        "Integer('1')",
        "Max(*s0)",
        "Add(**s0)",
        "f'{s0}'",
        "'s0'",
        "s0 if s1 else s2",
        "(s0 := 1)",
        "s0[0]",
        "1j",
        "b'x'",
    ],
)
def test_more_than_arithmetic(text: str) -> None:
    with pytest.raises(UnsafeProgramError):
        check_expression(text)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"graph_module": {}}', b"\xff", b"[" * 100_000])
def test_other_documents(text: bytes) -> None:
    with pytest.raises(UnsafeProgramError, match="is no exported program"):
        checked_program(text)
