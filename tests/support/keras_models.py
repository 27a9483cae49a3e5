"""Keras models for tests: one trained on real digits, some of other shapes, and files that are bad in one way each."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.datasets import load_digits

from pilothouse_runtime.engine.backends import keras3  # before Keras: sets which backend it is to use

import keras  # isort: skip

assert keras3  # its import is what counts
Parts = dict[str, bytes]
WEIGHTS = "model.weights.h5"


def digits() -> tuple[Any, Any]:
    """Return images [n, 64] of FP32 from 0 to 1, and labels [n]."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels


def train_digits(file: Path) -> Any:
    """Train a small convolutional network, write it to a file, and return it."""
    keras.utils.set_random_seed(7)
    image = keras.Input((64,), name="image")
    x = keras.layers.Reshape((8, 8, 1))(image)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.2)(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Dense(10, name="scores")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    images, labels = digits()
    model.fit(images[:1500], labels[:1500], batch_size=100, epochs=4, verbose=0)
    model.save(file)
    return model


def trees() -> Any:
    """Return a model with dicts of inputs and of outputs, in another order than their names'."""
    right, left = keras.Input((4,), name="right"), keras.Input((4,), dtype="int32", name="left")
    total = keras.layers.Add()([right, keras.ops.cast(left, "float32")])
    return keras.Model({"right": right, "left": left}, {"total": total, "double": right * 2.0})


def lists() -> Any:
    """Return a model with lists of inputs and outputs, two of these from layers of one name."""
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y")
    layer = keras.layers.Dense(2, name="dense")
    return keras.Model([x, y], [layer(x), layer(y)])


def nested() -> Any:
    """Return a model with a compiled one in it, which has an optimizer and a loss."""
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "gelu")], name="inner")
    inner.compile("adam", "mse")
    x = keras.Input((3,), name="x")
    return keras.Model(x, inner(keras.layers.Normalization(mean=1.0, variance=4.0)(x)))


def sequence() -> Any:
    """Return a recurrent network that takes sequences of any length."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.LSTM(4)(keras.layers.Embedding(20, 4)(tokens))
    return keras.Model(tokens, keras.layers.Dense(2, name="mood")(x))


def remembering() -> Any:
    """Return a model that keeps something from one run for the next."""
    x = keras.Input(batch_shape=(1, 5, 2), name="x")
    return keras.Model(x, keras.layers.LSTM(3, stateful=True)(x))


def unbuilt() -> Any:
    """Return a model that does not know yet what it takes, as it is after it was loaded."""
    model = keras.Sequential([keras.layers.Dense(2)])
    model.built = True  # or Keras warns of saving it
    return model


@keras.saving.register_keras_serializable("mine")
class Mine(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer whose code is not Keras's."""

    def call(self, x: Any) -> Any:
        """Change nothing."""
        return x


@keras.saving.register_keras_serializable("mine")
def bent(x: Any) -> Any:
    """An activation whose code is not Keras's."""
    return x * x


def _one(layer: Any) -> Any:
    image = keras.Input((64,), name="image")
    return keras.Model(image, layer(image))


def parts(file: Path) -> Parts:
    """Return the members of an archive."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: Mapping[str, bytes], file: Path) -> Path:
    """Write an archive."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def _saved(model: Any) -> Callable[[Parts, Path], None]:
    return lambda _, file: model().save(file)


def _member(name: str, content: bytes | None) -> Callable[[Parts, Path], None]:
    """Replace, add or leave out a member."""

    def make(good: Parts, file: Path) -> None:
        changed = {**good, name: content or b""}
        packed({key: value for key, value in changed.items() if key != name or content is not None}, file)

    return make


def _layer(change: Callable[[dict[str, Any]], Any]) -> Callable[[Parts, Path], None]:
    """Change the configuration of the last layer but one."""

    def make(good: Parts, file: Path) -> None:
        config = json.loads(good["config.json"])
        change(config["config"]["layers"][-2])
        packed({**good, "config.json": json.dumps(config).encode()}, file)

    return make


def _weights(change: Callable[[Any], Any]) -> Callable[[Parts, Path], None]:
    """Change the HDF5 file of the weights."""

    def make(good: Parts, file: Path) -> None:
        content = io.BytesIO(good[WEIGHTS])
        with h5py.File(content, "r+") as weights:
            change(weights)
        packed({**good, WEIGHTS: content.getvalue()}, file)

    return make


def _renamed(module: str, name: str, /, **config: Any) -> Callable[[dict[str, Any]], None]:
    return lambda layer: layer.update(module=module, class_name=name, config={"name": "odd", **config})


def _function(module: str, name: str) -> Callable[[dict[str, Any]], None]:
    value = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    return lambda layer: layer["config"].update(activation=value)


def _linked(link: Any) -> Callable[[Any], None]:
    def change(weights: Any) -> None:
        weights["layers/elsewhere"] = link

    return change


def _outside(weights: Any) -> None:
    del weights["layers/dense/vars/1"]
    weights["layers/dense/vars"].create_dataset("1", (10,), "f4", external=[("/etc/passwd", 0, 40)])


def _virtual(weights: Any) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (10,))
    weights["layers/dense/vars"].create_virtual_dataset("2", layout)


def _vast(weights: Any) -> None:
    weights["layers/dense/vars"].create_dataset("2", (1 << 40,), "f4", chunks=(1024,))


def _shorter(weights: Any) -> None:
    del weights["layers/dense/vars/0"]
    weights["layers/dense/vars"]["0"] = np.zeros((7, 10), np.float32)


def _without(weights: Any) -> None:
    del weights["layers/dense"]


# What is made of a good file's members, and what the failure tells beside the file's name.
BAD: dict[str, tuple[Callable[[Parts, Path], None], str]] = {
    "lambda": (_saved(lambda: _one(keras.layers.Lambda(lambda x: x + 1))), "Python code in a Lambda"),
    "custom class": (_saved(lambda: _one(Mine())), "needs the class mine>Mine"),
    "custom function": (
        _saved(lambda: _one(keras.layers.Dense(2, activation=bent))),
        "needs the function mine>bent",
    ),
    "unbuilt": (_saved(unbuilt), "begin it with keras.Input"),
    "torch module": (
        _layer(_renamed("keras.layers", "TorchModuleWrapper", module="gAJj")),
        "Python code in a TorchModuleWrapper",
    ),
    "saved model": (
        _layer(_renamed("keras.layers", "TFSMLayer", filepath="/tmp")),  # noqa: S108 - never read
        "a TFSMLayer .*runs on TensorFlow only",
    ),
    "reads a file": (
        _layer(_renamed("keras.layers", "StringLookup", vocabulary="/etc/passwd")),
        "a StringLookup .*runs on TensorFlow only",
    ),
    "other module": (_layer(_renamed("os", "system")), "needs the class system"),
    "utility": (_layer(_renamed("keras.utils", "get_file")), "needs the class get_file"),
    "downloads": (_layer(_function("keras.utils", "get_file")), "needs the function get_file"),
    "unpickles": (_layer(_function("pickle", "loads")), "needs the function loads"),
    "unknown layer": (_layer(_renamed("keras.layers", "Thinker")), "Keras 3.* cannot load it: .*Thinker"),
    "no layer": (_layer(lambda layer: layer.update(class_name=7)), "names the class '7'"),
    "no model": (
        lambda good, file: packed(
            {
                **good,
                "config.json": json.dumps(
                    {"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}}
                ).encode(),
            },
            file,
        ),
        "is of a Dense, not of a model",
    ),
    "no configuration": (_member("config.json", None), "holds no config.json"),
    "no JSON": (_member("config.json", b"{"), "config.json cannot be read"),
    "deep JSON": (_member("config.json", b"[" * 100_000), "config.json cannot be read"),
    "a list": (_member("config.json", b"[]"), "config.json is no JSON object"),
    "no weights": (_member(WEIGHTS, None), f"holds no {WEIGHTS}"),
    "empty weights": (_member(WEIGHTS, b""), "is broken"),
    "an asset": (_member("assets/words.txt", b"red"), "tables of words"),
    "a guest": (_member("train.py", b"import os"), "holds 'train.py', which Keras does not write"),
    "of Keras 2": (_member("metadata.json", b'{"keras_version": "2.15.0"}'), r"saved by Keras 2\.15\.0"),
    "of nobody": (_member("metadata.json", b"{}"), "saved by Keras None"),
    "soft link": (_weights(_linked(h5py.SoftLink("/layers"))), "is a link to somewhere else"),
    "external link": (
        _weights(_linked(h5py.ExternalLink("/etc/passwd", "/"))),
        "is a link to somewhere else",
    ),
    "outside": (_weights(_outside), "lie in another file"),
    "virtual": (_weights(_virtual), "lie in another file"),
    "vast": (_weights(_vast), "declares arrays of more than"),
    "texts": (
        _weights(lambda weights: weights["layers/dense/vars"].create_dataset("2", data=["red"])),
        "no array of numbers",
    ),
    "other shape": (_weights(_shorter), "Keras 3.* cannot load it: .*[Ss]hape"),
    "weights lack": (_weights(_without), "Keras 3.* cannot load it: .*expected 2 variables"),
}
