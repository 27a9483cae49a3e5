"""Models whose rows are not what they seem: a batch of requests would get other answers than each alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Recurrent(nn.Module):
    """The free first dimension is time: x [time, 3], y [time, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNN(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return self.cell(x.unsqueeze(1))[0].squeeze(1)


class Centred(nn.Module):
    """Subtracts the mean of all rows: x and y are [rows, 3]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return x - x.mean(0)


class Transposed(nn.Module):
    """Gives its rows as columns: x [rows, 3], y [3, rows]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return x.t().contiguous()


class Attending(nn.Module):
    """Rows attend to each other: x and y are [rows, 4]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return torch.softmax(x @ x.t(), 1) @ x


class Summed(nn.Module):
    """Gives one number for all rows: x [rows, 3], y []."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return x.sum()


class Counting(nn.Module):
    """Remembers how often it ran: x and y are [rows, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        self.runs += 1
        return x + self.runs


class Scribbling(nn.Module):
    """Writes to its input, and is honest otherwise: x and y are [rows, 3]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return x.div_(255).sub_(1)


class Small(nn.Module):
    """Fails on more than 5 rows: x and y are [rows, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("room", torch.zeros(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return self.room[: x.shape[0]] + x


class Counts(nn.Module):
    """Adds the largest of all rows to each: x and y are INT64 [rows, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return x + x.max()
