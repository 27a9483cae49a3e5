"""Networks whose weights are large enough to be looked for in a process's memory, and files of them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from tests.support.tiny_models import save_exported


class Wide(nn.Module):
    """Two layers of `side` inputs and outputs that share their weights."""

    side = 256

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.first = nn.Linear(self.side, self.side)
        self.second = nn.Linear(self.side, self.side, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [rows, side]."""
        return self.second(self.first(x).relu())


class Wider(Wide):
    """The same with 64 MiB of weights."""

    side = 4096


class Counting(Wide):
    """Counts its runs, which is in no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [rows, side]."""
        self.runs.add_(1)
        return super().forward(x)


class Halves(Wide):
    """Computes in halves."""

    def __init__(self) -> None:
        super().__init__()
        self.half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [rows, side] FP32."""
        return super().forward(x.half()).float()


def saved_wide(kind: str, folder: Path, network: Wide) -> Path:
    """Write a network as `kind` has it: exported, safetensors or statedict."""
    weights = network.state_dict()
    if kind == "exported":
        rows = ({0: torch.export.Dim("rows")},)
        return save_exported(network.eval(), folder / "m.pt2", (torch.zeros(2, network.side),), rows)
    if kind == "statedict":
        torch.save(weights, folder / "m.pt")
        return folder / "m.pt"
    save_file({name: tensor.clone() for name, tensor in weights.items()}, folder / "m.safetensors")
    return folder / "m.safetensors"
