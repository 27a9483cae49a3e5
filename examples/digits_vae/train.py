"""Trains a variational autoencoder on scikit-learn's digits: `python -m examples.digits_vae.train --out DIR`.

It learns from the digits 1 to 9 only, and so knows them from what it has never seen: zeros. Two models are packed, each
into a folder. `digits-vae` takes `image` FP32 [-1, 64], the raw grey values 0 to 16 of 8 x 8 pixels, and gives its
`code` FP32 [-1, 8], its `reconstruction` FP32 [-1, 64] in grey values, and its `anomaly` FP32 [-1], which is high for
what is no digit that it knows. `digits-decoder` takes a `code` and gives an `image`. Nothing is drawn at random
while they serve: an image's code is the mean of its distribution, and who wants new digits draws codes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from examples import report
from examples.digits.train import split
from pilothouse_runtime.pack import pack

SEED: Final = 1
CODE: Final = 8  # numbers that an image is put into
PULL: Final = (
    0.1  # of the codes towards a standard normal distribution, against the error in squared grey values
)
STRANGE: Final = 0  # the digit that is kept from the model
EPOCHS: Final = 100


class Decoder(nn.Module):
    """Codes to images."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(CODE, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid()
        )

    def forward(self, code: Tensor) -> dict[str, Tensor]:
        """Return images [batch, 64] in grey values 0 to 16 for codes [batch, 8]."""
        return {"image": self.layers(code) * 16.0}


class Autoencoder(nn.Module):
    """Images to codes, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.mean = nn.Linear(64, CODE)
        self.log_variance = nn.Linear(64, CODE)
        self.decoder = Decoder()

    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of the codes of images [batch, 64]."""
        features = self.layers(image / 16.0)
        return self.mean(features), self.log_variance(features).clamp(-8, 8)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return code, reconstruction and anomaly, which is what training makes small, for images [batch, 64]."""
        mean, log_variance = self.distribution(image)
        reconstruction = self.decoder(mean)["image"]
        anomaly = loss(image, reconstruction, mean, log_variance)
        return {"code": mean, "reconstruction": reconstruction, "anomaly": anomaly}


def loss(image: Tensor, reconstruction: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return for each image how badly it is reconstructed, and how far its code is from those of others."""
    error = (reconstruction / 16.0 - image / 16.0).square().sum(1)
    distance = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return error + PULL * distance


def fit(model: Autoencoder, images: Tensor) -> None:
    """Train with Adam in batches of 64, on codes drawn from their distributions."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            image = images[batch]
            mean, log_variance = model.distribution(image)
            code = mean + torch.randn(mean.shape, generator=generator) * (log_variance / 2).exp()
            mistakes = loss(image, model.decoder(code)["image"], mean, log_variance).mean()
            optimizer.zero_grad()
            mistakes.backward()
            optimizer.step()
    model.eval()


def train(out: Path) -> dict[str, report.Facts]:
    """Train and pack into `out`, with the offline answers and a report, which is returned."""
    torch.set_num_threads(1)  # layers this small are faster, and sums always the same, without other threads
    torch.manual_seed(SEED)
    images, labels, held_out, truth = split()
    model = Autoencoder()
    fit(model, images[labels != STRANGE])
    with torch.inference_mode():
        answers = model(held_out)
        drawn = model.decoder(answers["code"])["image"]

    known = truth != STRANGE
    shown, codes = held_out[known], answers["code"][known]
    # A good model gives back what it is shown: the error of that is what a new revision is validated by.
    pack(
        model,
        {"image": shown[:8]},
        out / "digits-vae",
        golden_inputs={"image": shown},
        golden_outputs={"reconstruction": shown.numpy()},
    )
    pack(
        model.decoder,
        {"code": codes[:8]},
        out / "digits-decoder",
        golden_inputs={"code": codes},
        golden_outputs={"image": shown.numpy()},
    )
    told = {f"output.{name}": tensor.numpy() for name, tensor in answers.items()}
    np.savez(out / "digits-vae-answers.npz", **{"input.image": held_out.numpy()}, **told)
    told = {"input.code": codes.numpy(), "output.image": drawn[known].numpy()}
    np.savez(out / "digits-decoder-answers.npz", **told)

    error = (answers["reconstruction"] - held_out)[known].square().mean()
    found = roc_auc_score(truth == STRANGE, answers["anomaly"])
    return report.write(
        out,
        {
            "digits-vae": {"meanSquaredError": float(error), "areaUnderCurve": float(found)},
            "digits-decoder": {"meanSquaredError": float(error)},
        },
    )


def main() -> None:
    """Train, and print how well it reconstructs digits that it has not seen, and how well it tells zeros from them."""
    parser = argparse.ArgumentParser(description="Train and pack the autoencoder of digits.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into; made if missing")
    out = parser.parse_args().out
    print(report.told(out, train(out)))


if __name__ == "__main__":
    main()
