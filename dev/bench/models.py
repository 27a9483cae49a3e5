"""The models of the benchmarks, written out in plain torch, with random weights that are the same everywhere.

Every peer imports this file in its own environment, so it needs torch and nothing else.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

SEED: Final = 20
INPUT: Final = "x"  # also the name of each forward's argument
OUTPUT: Final = "y"
VOCABULARY: Final = 30522
TOKENS: Final = 128


class Small(nn.Module):
    """100-64-64-10 with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(100, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, 100] to [n, 10]."""
        y: Tensor = self.layers(x)
        return y


class _Block(nn.Module):
    """ResNet's basic block: two 3x3 convolutions and a way around them."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.around = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.around(x))


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2015, table 1) for 1,000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        blocks: list[nn.Module] = []
        width_in = 64
        for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [_Block(width_in, width, stride), _Block(width, width, 1)]
            width_in = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, 224, 224] to [n, 1000]."""
        y: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return y


class _Layer(nn.Module):
    """A transformer's encoder layer (Vaswani et al. 2017; normalised after each half, GELU, as BERT does)."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        q, k, v = self.qkv(x).view(rows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, tokens, width)
        x = self.norm1(x + self.mix(seen))
        y: Tensor = self.norm2(x + self.down(functional.gelu(self.up(x))))
        return y


class Transformer(nn.Module):
    """Six encoder layers of width 384; the mean of what comes out."""

    def __init__(self) -> None:
        super().__init__()
        width = 384
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Parameter(torch.randn(TOKENS, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(*(_Layer(width, 12, 4 * width) for _ in range(6)))

    def forward(self, x: Tensor) -> Tensor:
        """[n, 128] of token numbers to [n, 384]."""
        y: Tensor = self.layers(self.norm(self.embedding(x) + self.positions)).mean(1)
        return y


@dataclass(frozen=True)
class Kind:
    """What is known of a model without building it."""

    make: Callable[[], nn.Module]
    row: tuple[int, ...]  # shape of one row of its input
    out: tuple[int, ...]  # shape of one row of its output
    datatype: str  # of the input, in the words of the Open Inference Protocol


KINDS: Final = {
    "small": Kind(Small, (100,), (10,), "FP32"),
    "resnet18": Kind(ResNet18, (3, 224, 224), (1000,), "FP32"),
    "transformer": Kind(Transformer, (TOKENS,), (384,), "INT64"),
}
FORMS: Final = ("eager", "torchscript", "exported")


def build(name: str) -> nn.Module:
    """Return a model ready to be used, with the same weights in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return KINDS[name].make().eval().requires_grad_(False)


def sample(name: str, rows: int, seed: int = 0) -> Tensor:
    """Return `rows` rows of input, the same for the same seed."""
    kind, generator = KINDS[name], torch.Generator().manual_seed(seed)
    if kind.datatype == "INT64":
        return torch.randint(0, VOCABULARY, (rows, *kind.row), generator=generator)
    return torch.randn((rows, *kind.row), generator=generator)


def save(name: str, folder: Path) -> None:
    """Write NAME.pt (TorchScript, frozen, with its signature) and NAME.pt2 (torch.export)."""
    model, kind = build(name), KINDS[name]
    signature = {
        "inputs": [{"name": INPUT, "datatype": kind.datatype, "shape": [-1, *kind.row]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, *kind.out]}],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated; it is what many have
        scripted: Any = torch.jit.freeze(torch.jit.trace(model, sample(name, 2)))  # type: ignore[no-untyped-call] # torch's
        scripted.save(str(folder / f"{name}.pt"), _extra_files={"signature.json": json.dumps(signature)})
        batch = torch.export.Dim("batch", min=1, max=1024)
        program = torch.export.export(
            _Named(model), (sample(name, 2),), dynamic_shapes={INPUT: {0: batch}}, strict=False
        )
        torch.export.save(program, folder / f"{name}.pt2")


class _Named(nn.Module):
    """Names the output, which torch.export takes from a dict's keys."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {OUTPUT: self.model(x)}


def load(name: str, form: str, folder: Path) -> Callable[[Tensor], Tensor]:
    """Return a model in one of FORMS as something to call; `folder` is where `save` has written."""
    if form == "eager":
        return build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "torchscript":
            scripted: Any = torch.jit.load(str(folder / f"{name}.pt"))  # type: ignore[no-untyped-call] # torch's
            return lambda x: scripted(x)
        module = torch.export.load(folder / f"{name}.pt2").module()
    return lambda x: module(x)[OUTPUT]
