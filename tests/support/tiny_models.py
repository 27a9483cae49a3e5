"""Models of a few numbers, written in every way that models are written."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

AFFINE_SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


class Affine(nn.Module):
    """y = x A + b with the known numbers below; x [batch, 3], y [batch, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]]))
            self.linear.bias.copy_(torch.tensor([0.5, -0.5]))

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return self.linear(x)


class Mixer(nn.Module):
    """Two inputs and two outputs of different types: names, order and datatypes all matter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(10, dtype=torch.int64), persistent=False)

    def forward(self, values: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Return scaled [batch, 2] FP32 and raised [batch] INT64."""
        return {"scaled": values * counts.unsqueeze(1).float(), "raised": counts + self.offset}


class Sleeper(nn.Module):
    """y = x, after `rounds` products of matrices of `size` that take their time."""

    def __init__(self, rounds: int, size: int = 64) -> None:
        super().__init__()
        self.rounds = rounds
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return x unchanged."""
        busy = torch.ones(self.size, self.size) + x.sum() * 0  # else it might be computed once, at loading
        for _ in range(self.rounds):
            busy = torch.tanh(busy @ busy)
        return x + busy.sum() * 0


class Moody(nn.Module):
    """Fails by itself on negative numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x unchanged."""
        if bool((x < 0).any()):
            raise ValueError("I do not like negative numbers")
        return x


def save_torchscript(
    model: nn.Module, path: Path, signature: Mapping[str, Any] | None = AFFINE_SIGNATURE
) -> Path:
    """Write a scripted model, with its signature.json if there is one."""
    extra = {"signature.json": json.dumps(signature)} if signature else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as such
        torch.jit.save(torch.jit.script(model), str(path), _extra_files=extra)
    return path


def save_exported(model: nn.Module, path: Path, inputs: tuple[Tensor, ...], shapes: Any) -> Path:
    """Write an exported program."""
    program = torch.export.export(model, inputs, dynamic_shapes=shapes)
    torch.export.save(program, str(path))
    return path


def save_affine(path: Path) -> Path:
    """Write Affine as an exported program with a free batch."""
    return save_exported(Affine(), path, (torch.zeros(2, 3),), {"x": {0: torch.export.Dim("batch")}})


def save_mixer(path: Path) -> Path:
    """Write Mixer as an exported program whose two inputs share a free batch."""
    batch = torch.export.Dim("batch")
    example = (torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64))
    return save_exported(Mixer(), path, example, {"values": {0: batch}, "counts": {0: batch}})


def rewritten(
    source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **added: bytes
) -> Path:
    """Copy an archive member by member; `change` gets a member's name without its folder and its bytes.

    Args:
        change: returns the new bytes, or None to leave the member out.
        added: further members, with / written as __.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        folder = old.namelist()[0].split("/", 1)[0]
        for name in old.namelist():
            content = change(name.split("/", 1)[1], old.read(name))
            if content is not None:
                new.writestr(name, content)
        for name, content in added.items():
            new.writestr(f"{folder}/{name.replace('__', '/')}", content)
    return target


class Bomb:
    """Whoever unpickles this makes the folder `mark`: proof that code of a file has run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


def bomb(mark: Path) -> bytes:
    """Return a plain pickle that runs code."""
    return pickle.dumps(Bomb(mark), protocol=2)


def torch_bomb(mark: Path) -> bytes:
    """Return what torch.save makes of an object that runs code."""
    buffer = io.BytesIO()
    torch.save({"tensor": Bomb(mark)}, buffer)
    return buffer.getvalue()
