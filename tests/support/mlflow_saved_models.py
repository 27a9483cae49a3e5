"""Has MLflow write its folders with models of TensorFlow, and says what MLflow itself answers with them.

Run as `python -m tests.support.mlflow_saved_models FOLDER`, by the interpreter of an environment that has MLflow, with
the packages of the image with TensorFlow in its path. `mlflow_models` is the same with torch, in a process of its own:
Keras has one backend.
"""

# mypy: ignore-errors

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.update(KERAS_BACKEND="tensorflow", MLFLOW_DISABLE_TELEMETRY="true", TF_CPP_MIN_LOG_LEVEL="2")

import keras
import mlflow.keras
import mlflow.pyfunc
import mlflow.tensorflow
import numpy as np
import tensorflow as tf
from mlflow.models import infer_signature

X = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 4.0]], np.float32)
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)
BIAS = np.array([0.5, -0.5], np.float32)


class Module(tf.Module):
    """The same affine function as a module of TensorFlow's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = tf.Variable(WEIGHT), tf.Variable(BIAS)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x @ self.weight + self.bias}


def network() -> keras.Model:
    """Return it as a network of Keras."""
    made = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")])
    made.layers[-1].set_weights([WEIGHT, BIAS])
    return made


if __name__ == "__main__":
    [folder] = map(Path, sys.argv[1:])
    mlflow.set_tracking_uri(f"sqlite:///{folder}/tracking.db")
    # Without requirements, which MLflow finds out by loading each once more.
    common = {"signature": infer_signature(X, X @ WEIGHT + BIAS), "pip_requirements": []}
    mlflow.tensorflow.save_model(Module(), folder / "module", **common)
    mlflow.tensorflow.save_model(network(), folder / "network", **common)
    mlflow.keras.save_model(network(), folder / "exported", save_exported_model=True, **common)
    answers = {
        name: mlflow.pyfunc.load_model(str(folder / name)).predict(X) for name in ("module", "network")
    }
    np.savez(folder / "answers.npz", x=X, module=answers["module"]["y"], network=answers["network"])
