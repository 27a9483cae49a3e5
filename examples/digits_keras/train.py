"""Trains the convolutional network of examples/digits with Keras 3: `python -m examples.digits_keras.train --out DIR`.

`digits-keras.keras` takes `image` FP32 [-1, 64], raw grey values 0 to 16, and gives `logits` FP32 [-1, 10]; scaling and
reshaping are layers of it. Keras runs on torch, here and in the runtime.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

os.environ["KERAS_BACKEND"] = "torch"  # before keras is imported: it looks only then

import keras
import numpy as np
import torch
from keras import layers

from examples import report
from examples.digits.train import split

SEED: Final = 1
EPOCHS: Final = 15


def network() -> keras.Model:
    """Return the three small convolutions, and the linear layer, of examples/digits; untrained."""
    image = keras.Input((64,), name="image")
    x = layers.Rescaling(1 / 16)(image)
    x = layers.Reshape((8, 8, 1))(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="digits")


def train(out: Path) -> dict[str, report.Facts]:
    """Train and save into `out`, with a golden data set, the offline answers and a report, which is returned."""
    torch.set_num_threads(1)  # layers this small are faster, and sums always the same, without other threads
    keras.utils.set_random_seed(SEED)
    images, labels, held_out, truth = (tensor.numpy() for tensor in split())
    model = network()
    rate = keras.optimizers.schedules.CosineDecay(5e-3, EPOCHS * -(-len(images) // 64))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(images, labels, batch_size=64, epochs=EPOCHS, verbose=0)
    logits = model.predict(held_out, verbose=0)

    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "digits-keras.keras")
    rows = {"input.image": held_out}
    np.savez(out / "digits-keras-golden.npz", **rows, **{"output.logits": truth})
    np.savez(out / "digits-keras-answers.npz", **rows, **{"output.logits": logits})
    return report.write(out, {"digits-keras.keras": {"accuracy": float((logits.argmax(1) == truth).mean())}})


def main() -> None:
    """Train, and print how good the network is on images that it has not seen."""
    parser = argparse.ArgumentParser(description="Train the network of digits with Keras.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into; made if missing")
    out = parser.parse_args().out
    print(report.told(out, train(out)))


if __name__ == "__main__":
    main()
