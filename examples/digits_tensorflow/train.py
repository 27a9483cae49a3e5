"""Trains the network of examples/digits with TensorFlow; see the README for the environment that it needs.

The folder `digits-tensorflow` is a SavedModel. It takes `image` FP32 [-1, 64], raw grey values 0 to 16, and gives
`logits` FP32 [-1, 10]; scaling and reshaping are layers of it. The images are those that examples/digits has written:
the environment of TensorFlow holds no scikit-learn.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

os.environ["KERAS_BACKEND"] = "tensorflow"  # before keras is imported: it looks only then
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from examples import report

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


def save(model: keras.Model, folder: Path) -> None:
    """Write a SavedModel whose signature names its input and its output."""

    @tf.function(input_signature=[tf.TensorSpec((None, 64), tf.float32, "image")])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(image, training=False)}

    tf.saved_model.save(model, str(folder), signatures=serve)


def train(data: Path, out: Path) -> dict[str, report.Facts]:
    """Train and save into `out`, with a golden data set, the offline answers and a report, which is returned.

    Args:
        data: the folder that `examples.digits.train` has written into.
    """
    keras.utils.set_random_seed(SEED)
    seen = np.load(data / "digits-train.npz", allow_pickle=False)
    held_out = np.load(data / "digits-test.npz", allow_pickle=False)
    images, truth = held_out["inputs"], held_out["labels"]
    model = network()
    rate = keras.optimizers.schedules.CosineDecay(5e-3, EPOCHS * -(-len(seen["labels"]) // 64))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(seen["inputs"], seen["labels"], batch_size=64, epochs=EPOCHS, verbose=0)
    logits = model.predict(images, verbose=0)

    out.mkdir(parents=True, exist_ok=True)
    save(model, out / "digits-tensorflow")
    rows = {"input.image": images}
    np.savez(out / "digits-tensorflow-golden.npz", **rows, **{"output.logits": truth})
    np.savez(out / "digits-tensorflow-answers.npz", **rows, **{"output.logits": logits})
    accuracy = float((logits.argmax(1) == truth).mean())
    return report.write(out, {"digits-tensorflow": {"accuracy": accuracy}})


def main() -> None:
    """Train, and print how good the network is on images that it has not seen."""
    parser = argparse.ArgumentParser(description="Train the network of digits with TensorFlow.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that examples.digits.train wrote into"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into; made if missing")
    given = parser.parse_args()
    print(report.told(given.out, train(given.data, given.out)))


if __name__ == "__main__":
    main()
