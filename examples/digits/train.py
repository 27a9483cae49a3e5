"""Trains two networks on scikit-learn's digits and exports them: `python -m examples.digits.train --out DIR`.

Both take `image` FP32 [-1, 64], the raw grey values 0 to 16 of 8 x 8 pixels, and give `logits` FP32 [-1, 10];
scaling and reshaping are part of the exported models. Version 1 is a plain network, exported as TorchScript;
version 2 is a convolutional one, exported by torch.export, and clearly the better of the two.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED: Final = 1
HELD_OUT: Final = 0.4  # of 1797 images; drawn once, so that both models are measured on the same ones
GOLDEN_ROWS: Final = 200  # of the held-out images; enough to tell 95% right from 98%, and soon answered
SIGNATURE: Final = {
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
}


class PlainNetwork(nn.Module):
    """One small hidden layer on the pixels, which knows nothing of their places."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [batch, 10] for images [batch, 64]."""
        return self.layers(image / 16.0)


class ConvolutionalNetwork(nn.Module):
    """Three small convolutions, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32 * 4 * 4, 10),
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits [batch, 10] for images [batch, 64]; by name, as exported programs keep names of dicts."""
        return {"logits": self.layers(image.reshape(-1, 1, 8, 8) / 16.0)}


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return what a model gives, whether by name or not."""
    result = model(images)
    return result["logits"] if isinstance(result, dict) else result


def fit(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Train with Adam in batches of 64, the learning rate falling to nothing."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batches = -(-len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=epochs * batches)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            loss = nn.functional.cross_entropy(logits(model, images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that the model names rightly."""
    with torch.inference_mode():
        return float((logits(model, images).argmax(1) == labels).float().mean())


def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images and labels to train with, and those held out: FP32 [n, 64], INT64 [n]."""
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.data.astype(np.float32),
        digits.target,
        test_size=HELD_OUT,
        random_state=SEED,
        stratify=digits.target,
    )
    images, labels = torch.from_numpy(train_x), torch.from_numpy(train_y)
    return images, labels, torch.from_numpy(test_x), torch.from_numpy(test_y)


def save_torchscript(model: nn.Module, path: Path) -> None:
    """Export a model as TorchScript, together with its signature."""
    with warnings.catch_warnings():
        # TorchScript is old, and still what many people have.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(model), path, _extra_files={"signature.json": json.dumps(SIGNATURE)})


def train(out: Path) -> dict[str, dict[str, object]]:
    """Train and export both models into `out`, with the held-out images and a report, which is returned."""
    torch.set_num_threads(1)  # layers this small are faster, and sums always the same, without other threads
    torch.manual_seed(SEED)
    images, labels, held_out, truth = split()

    plain = PlainNetwork()
    fit(plain, images, labels, epochs=20)
    convolutional = ConvolutionalNetwork()
    fit(convolutional, images, labels, epochs=15)

    out.mkdir(parents=True, exist_ok=True)
    save_torchscript(plain, out / "digits-mlp.pt")
    batch = torch.export.Dim("batch")
    program = torch.export.export(convolutional, (held_out[:2],), dynamic_shapes={"image": {0: batch}})
    torch.export.save(program, out / "digits-cnn.pt2")
    np.savez(out / "digits-train.npz", inputs=images.numpy(), labels=labels.numpy())
    np.savez(out / "digits-test.npz", inputs=held_out.numpy(), labels=truth.numpy())
    # Class numbers in place of logits: right for any model of digits.
    golden = {"input.image": held_out[:GOLDEN_ROWS].numpy(), "output.logits": truth[:GOLDEN_ROWS].numpy()}
    np.savez(out / "digits-golden.npz", **golden)

    report: dict[str, dict[str, object]] = {}
    for file, model in (("digits-mlp.pt", plain), ("digits-cnn.pt2", convolutional)):
        digest = hashlib.sha256((out / file).read_bytes()).hexdigest()
        report[file] = {"accuracy": accuracy(model, held_out, truth), "digest": f"sha256:{digest}"}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def main() -> None:
    """Train, and print how good the models are on images they have not seen."""
    parser = argparse.ArgumentParser(description="Train and export the digits models.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into; made if missing")
    out = parser.parse_args().out
    for file, facts in train(out).items():
        print(f"{out / file}: held-out accuracy {facts['accuracy']:.2%}, {facts['digest']}")


if __name__ == "__main__":
    main()
