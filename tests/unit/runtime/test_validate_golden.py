"""Golden data sets, and files that are none."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.tensors import Datatype, datatype_of
from pilothouse_runtime.engine.golden import Golden, read_golden
from pilothouse_runtime.engine.source import LocalFile
from tests.support.tiny_models import Affine, Bomb, save_affine, save_torchscript, torch_bomb


def read(path: Path, *, needs_outputs: bool = True, **arrays: Any) -> Golden:
    """Write arrays, in whose names __ stands for the dot, and read them."""
    if arrays:
        np.savez(path, **{name.replace("__", "."): array for name, array in arrays.items()})
    return read_golden(LocalFile(path), needs_outputs=needs_outputs)


def refused(path: Path, *, needs_outputs: bool = True, **arrays: Any) -> str:
    with pytest.raises(LoadError) as caught:
        read(path, needs_outputs=needs_outputs, **arrays)
    assert (caught.value.reason, caught.value.permanent) == (FailureReason.VALIDATION_NOT_DONE, True)
    assert caught.value.message.startswith("the data set ")
    return caught.value.message.removeprefix("the data set ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "golden.npz"


X, Y = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([1, 0, 1])


def test_inputs_and_outputs_by_name(path: Path) -> None:
    golden = read(path, input__b=X, input__a=Y, output__scores__0=Y)
    assert golden.rows == 3
    assert list(golden.inputs) == ["b", "a"]  # in the file's order: models without a signature go by it
    assert list(golden.outputs) == ["scores.0"]
    np.testing.assert_array_equal(golden.inputs["b"], X)


def test_against_another_revision_outputs_may_be_left_out(path: Path) -> None:
    assert read(path, input__x=X, needs_outputs=False).outputs == {}
    assert refused(path, input__x=X) == "has no array output.NAME; it has input.x"


def test_compressed_and_foreign_byte_orders(path: Path) -> None:
    np.savez_compressed(path, **{"input.x": X.astype(">f4"), "output.y": np.asfortranarray(np.ones((3, 4)))})
    golden = read(path)
    assert golden.inputs["x"].dtype == np.dtype("<f4")
    np.testing.assert_array_equal(golden.inputs["x"], X)


@pytest.mark.parametrize("given", [["Ä", "two words", ""], [b"\xc3\x84", b"two words", b""]])
def test_inputs_may_be_texts_and_are_bytes_then(path: Path, given: list[str] | list[bytes]) -> None:
    texts = read(path, input__x=np.array(given), output__y=Y).inputs["x"]
    assert datatype_of(texts.dtype) is Datatype.BYTES
    assert texts.tolist() == ["Ä".encode(), b"two words", b""]


def test_inputs_may_hold_nan_and_outputs_may_not(path: Path) -> None:
    hole = np.array([1.0, np.nan, 2.0])
    assert read(path, input__x=hole, output__y=Y).rows == 3
    assert refused(path, input__x=X, output__y=hole).startswith("holds NaN or infinity in 'output.y'")


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": X, "output__y": Y}, "holds 'x', which is neither input.NAME nor output.NAME"),
        ({"input__x": X, "outputs__y": Y}, "holds 'outputs.y', which is neither"),
        ({"input__": X, "output__y": Y}, "holds 'input.', which is neither"),
        ({"output__y": Y}, "has no array input.NAME; it has output.y"),
        ({"input__x": X, "output__y": Y[:2]}, "rows in every array: input.x has 3, output.y has 2"),
        ({"input__x": X[:0], "output__y": Y[:0]}, "has no rows"),
        ({"input__x": X, "output__y": np.float32(1)}, "holds 'output.y' without a dimension"),
        ({"input__x": X.astype("M8[s]"), "output__y": Y}, "holds 'input.x' of type datetime64[s]; use bool,"),
        (
            {"input__x": X, "output__y": np.array(["a", "b", "c"])},
            "holds texts in 'output.y': answers that are",
        ),
        ({"input__x": X.astype(np.complex64), "output__y": Y}, "holds 'input.x' of type complex64"),
        ({"input__x": X.astype(np.longdouble), "output__y": Y}, "holds 'input.x' of type float128"),
        ({"input__x": np.array([None, {}]), "output__y": Y[:2]}, "Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_are_no_data_set(path: Path, arrays: dict[str, Any], told: str) -> None:
    assert told in refused(path, **arrays)


def test_code_in_a_file_does_not_run(path: Path) -> None:
    mark = path.parent / "code-has-run"
    assert "Object arrays" in refused(path, input__x=np.array([Bomb(mark)], dtype=object), output__y=Y[:1])
    path.write_bytes(torch_bomb(mark))  # a zip with a pickle, as torch.save writes it
    assert "which is neither input.NAME nor output.NAME" in refused(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"x,y\n1,2\n", b"<html>Sign in</html>", b"\x1f\x8b123", b"\x89HDF\r\n"]
)
def test_files_of_other_kinds(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is no .npz file but a" in refused(path)


def test_a_folder(path: Path) -> None:
    path.mkdir()
    assert refused(path) == "is a folder; name the .npz file in it"


def test_models_are_no_data_sets(path: Path) -> None:
    for model in (save_affine(path), save_torchscript(Affine(), path)):
        assert "which is neither input.NAME nor output.NAME" in refused(model)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
def test_cut_off_files(path: Path, keep: float) -> None:
    np.savez(path, **{"input.x": np.ones((100, 9)), "output.y": np.ones(100)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    assert "is a broken archive of" in refused(path)


def test_damaged_files(path: Path) -> None:
    """Whatever byte of a file is another one: it is read, or refused in words."""
    np.savez_compressed(path, **{"input.x": X, "output.y": Y})
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        with contextlib.suppress(LoadError):
            read(path)


def with_header(header: str, data: bytes = b"") -> bytes:
    """Return an archive whose input.x has this header."""
    text = header.encode().ljust(117) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("input.x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000,)}",  # more than there is
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 'zz', 'fortran_order': False, 'shape': (1,)}",
        "__import__('os').getpid()",
        "{'descr': '<f4'}",
    ],
)
def test_headers_that_lie(path: Path, header: str) -> None:
    path.write_bytes(with_header(header, b"\0" * 8))
    refused(path, needs_outputs=False)


def test_archives_that_would_fill_the_memory(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("input.x.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(513):
            member.write(bytes(1024 * 1024))
    assert path.stat().st_size < 10_000_000
    assert refused(path) == "would expand to 537,919,488 bytes; 536,870,912 are the most that are read"
