"""Models of the digits example that go wrong in one way each, and one that does not: what rollouts are tested with.

All take `image` FP32 [-1, 64] and give `logits` FP32 [-1, 10] as the example's do, so that its client and its golden
data set work with them; all are loaded, warmed up and ready like any model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from examples.digits.train import PlainNetwork, fit, save_torchscript, split

RETRAINED: Final = "digits-retrained.pt"
SLOW: Final = "digits-slow.pt"
ERRORING: Final = "digits-erroring.pt"
WRONG: Final = "digits-wrong.pt"

_SEED: Final = 9  # another than the example's, and as good
_ROUNDS: Final = 30_000


class Slow(nn.Module):
    """Answers rightly, and so late that nobody would want it: half a second of one core a request, of any size."""

    def __init__(self, network: nn.Module, rounds: int) -> None:
        super().__init__()
        self.network = network
        self.rounds = rounds

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [batch, 10] for images [batch, 64]."""
        busy = torch.full((64, 64), 0.01)
        for _ in range(self.rounds):
            busy = torch.tanh(busy @ busy)
        return self.network(image) + busy.sum() * 0.0


class Erroring(nn.Module):
    """Fails on each request whose first image is brighter than a threshold; the zeros of a warm-up never are."""

    def __init__(self, network: nn.Module, threshold: float) -> None:
        super().__init__()
        self.network = network
        self.threshold = threshold

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [batch, 10] for images [batch, 64]."""
        if float(image[0].sum()) > self.threshold:
            raise RuntimeError("dazzled by a bright image")
        return self.network(image)


class Wrong(nn.Module):
    """Answers at once, with confidence, and with the digit that follows the right one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [batch, 10] for images [batch, 64]."""
        return self.network(image).roll(1, 1)


def write(folder: Path, failing_share: float = 0.5) -> None:
    """Train a network with a seed of its own, and write it as RETRAINED and in its odd forms. Takes some seconds.

    Args:
        failing_share: how many of the requests with random held-out digits ERRORING fails, 0 to 1.
    """
    images, labels, held_out, _ = split()
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        network = PlainNetwork()
        fit(network, images, labels, epochs=20)
    folder.mkdir(parents=True, exist_ok=True)
    save_torchscript(network, folder / RETRAINED)
    save_torchscript(Slow(network, _ROUNDS), folder / SLOW)
    threshold = float(torch.quantile(held_out.sum(1), 1 - failing_share))
    save_torchscript(Erroring(network, threshold), folder / ERRORING)
    save_torchscript(Wrong(network), folder / WRONG)
