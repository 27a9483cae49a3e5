"""Trains a recurrent network that forecasts sunspots: `python -m examples.sunspots.train --out DIR`.

The data are the yearly means of 1700 to 2008 that statsmodels ships. The model takes `history` FP32 [-1, -1], the
numbers of the years up to now, more than 44 of them, and gives `forecast` FP32 [-1, 5], those of the next five years.
What the network needs done before and after is exported with it: of the history the last 44 years are taken (four
cycles of the sun), and it works on square roots, whose errors are about as large in quiet years as in others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import torch
from statsmodels.datasets import sunspots
from torch import Tensor, nn

from examples import report
from pilothouse_runtime.pack import pack

SEED: Final = 1
WINDOW: Final = 44  # years that the network looks at
AHEAD: Final = 5  # years that it forecasts
SETTLING: Final = 10  # years after which its forecasts count in training: from fewer nobody could tell
HELD_OUT: Final = 1950  # the first year that training does not see
HISTORY: Final = (
    60  # years of history in the golden data set: more than the model needs, as clients have them
)
EPOCHS: Final = 60


class Forecaster(nn.Module):
    """A GRU along the years, and a linear layer on what it remembers at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(1, 32, batch_first=True)
        self.ahead = nn.Linear(32, AHEAD)

    def along(self, scaled: Tensor) -> Tensor:
        """Return after each year of [batch, years] the next ones [batch, years, 5]; both scaled."""
        memory, _ = self.recurrent(scaled.unsqueeze(-1))
        return self.ahead(memory)

    def forward(self, history: Tensor) -> dict[str, Tensor]:
        """Return the forecast [batch, 5] for histories [batch, years]."""
        last = self.along(scale(history[:, -WINDOW:]))[:, -1]
        return {"forecast": last.clamp_min(0).square() * 100.0}


def scale(numbers: Tensor) -> Tensor:
    """Return what the network sees of numbers of sunspots."""
    return (numbers.clamp_min(0) / 100.0).sqrt()


def fit(model: Forecaster, series: Tensor) -> None:
    """Train with AdamW on windows of the series [years], every year of which is a moment to forecast at."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    windows = scale(series).unfold(0, WINDOW + AHEAD, 1)
    batches = -(-len(windows) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=EPOCHS * batches)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(windows), generator=generator).split(64):
            window = windows[batch]
            came = window[:, 1:].unfold(1, AHEAD, 1)  # after each year
            difference = model.along(window[:, :WINDOW]) - came
            loss = difference[:, SETTLING:].abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def split() -> tuple[Tensor, Tensor, Tensor]:
    """Return the years to train with [250], and for each later year the history before it and what came.

    Returns:
        FP32 [250], [55, 60] and [55, 5].
    """
    data = sunspots.load_pandas().data
    series = torch.from_numpy(data.SUNACTIVITY.to_numpy(np.float32))
    first = int((data.YEAR < HELD_OUT).sum())
    held_out = series[first - HISTORY :].unfold(0, HISTORY + AHEAD, 1)
    return series[:first], held_out[:, :HISTORY], held_out[:, HISTORY:]


def train(out: Path) -> dict[str, report.Facts]:
    """Train and pack into `out`, with the offline answers and a report, which is returned."""
    torch.set_num_threads(
        1
    )  # a network this small is faster, and its sums always the same, without other threads
    torch.manual_seed(SEED)
    series, history, came = split()
    model = Forecaster()
    fit(model, series)
    with torch.inference_mode():
        forecast = model(history)["forecast"]

    pack(
        model,
        {"history": history[:8]},
        out / "sunspots",
        dynamic={"history": {1: "years"}},
        golden_inputs={"history": history},
        golden_outputs={"forecast": came.numpy()},
    )
    told = {"input.history": history.numpy(), "output.forecast": forecast.numpy()}
    np.savez(out / "sunspots-answers.npz", **told)

    def error(guess: Tensor) -> float:
        return float((guess - came).abs().mean())

    figures = {
        "meanAbsoluteError": error(forecast),
        "meanSquaredError": float((forecast - came).square().mean()),
        "meanAbsoluteErrorOfLastCycle": error(history[:, -11 : AHEAD - 11]),  # "as it was 11 years before"
    }
    return report.write(out, {"sunspots": figures})


def main() -> None:
    """Train, and print how far its forecasts from 1950 on were from what came."""
    parser = argparse.ArgumentParser(description="Train and pack the forecaster of sunspots.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into; made if missing")
    out = parser.parse_args().out
    print(report.told(out, train(out)))


if __name__ == "__main__":
    main()
