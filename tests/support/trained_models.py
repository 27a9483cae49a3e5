"""Models of every family that people train, as small as they come; all but `Stubborn` can be packed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """A perceptron, with dropout that must be off when it is served."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [batch, 3] for x [batch, 4]."""
        return self.layers(x)


class Convolutional(nn.Module):
    """Convolutions with batch norm, on images [batch, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 64, 10)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits [batch, 10] by name."""
        features = self.norm(self.convolution(image.reshape(-1, 1, 8, 8))).relu()
        return {"logits": self.head(features.flatten(1))}


class Recurrent(nn.Module):
    """A GRU over a series of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 5, batch_first=True)
        self.head = nn.Linear(5, 1)

    def forward(self, series: Tensor) -> Tensor:
        """Return the next value [batch, 1] of series [batch, time, 2]."""
        states, _ = self.gru(series)
        return self.head(states[:, -1])


class Variational(nn.Module):
    """A VAE that samples: its reconstruction is random, mean and log variance are not."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 4)
        self.decoder = nn.Linear(2, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return reconstruction [batch, 6], mean and log_variance [batch, 2]."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return {"reconstruction": self.decoder(drawn), "mean": mean, "log_variance": log_variance}


class Encoder(nn.Module):
    """A Transformer encoder over tokens with a mask, both of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return embeddings [batch, 16] for tokens and mask [batch, length], INT64 and BOOL."""
        states = self.encoder(self.embedding(tokens), src_key_padding_mask=~mask)
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)


class Several(nn.Module):
    """Two inputs, an option, and outputs of several types by position."""

    def forward(
        self, values: Tensor, counts: Tensor, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return values * counts, counts + 1, and whether the count is above 2."""
        return values * counts.unsqueeze(1), counts + 1, counts > 2


class Branching(nn.Module):
    """What it does depends on the data: torch.export refuses it, TorchScript takes it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x + 1 where its sum is above 0, else x - 1; [batch, 2]."""
        if bool(x.sum() > 0):
            return x + 1
        return x - 1


class Stubborn(nn.Module):
    """Neither torch.export nor TorchScript takes it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with something of Python's done to it."""
        if bool(x.sum() > 0):
            return x + len(json.dumps({"n": float(x.sum())}))
        return x


def examples(kind: type[nn.Module], rows: int = 6) -> dict[str, np.ndarray[Any, Any]]:
    """Return inputs that a model takes, by name."""
    random = np.random.default_rng(7)

    def floats(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(size=(rows, *shape)).astype(np.float32)

    if kind is Plain:
        return {"x": floats(4)}
    if kind is Convolutional:
        return {"image": floats(64)}
    if kind is Recurrent:
        return {"series": floats(9, 2)}
    if kind is Variational:
        return {"x": floats(6)}
    if kind is Encoder:
        lengths = random.integers(2, 8, size=rows)
        return {
            "tokens": random.integers(0, 50, size=(rows, 7)),
            "mask": np.arange(7) < lengths[:, None],
        }
    if kind is Several:
        return {"values": floats(2), "counts": random.integers(0, 5, size=rows)}
    return {"x": floats(2)}
