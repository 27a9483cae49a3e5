"""Has MLflow write its folders, and says what MLflow itself makes of those that are to be served.

Run as `python -m tests.support.mlflow_models FOLDER`, by the interpreter of an environment that has MLflow.
"""

# mypy: ignore-errors

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(KERAS_BACKEND="torch", MLFLOW_DISABLE_TELEMETRY="true")

import keras
import mlflow.keras
import mlflow.onnx
import mlflow.pyfunc
import mlflow.pytorch
import mlflow.sklearn
import mlflow.transformers
import numpy as np
import torch
import transformers
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from tests.support.tiny_models import Affine
from tests.support.written_models import X, Y, affine_onnx, save_transformers

# By name, what writes the folder at a path. Without requirements, which MLflow finds out by loading each once more.
WRITTEN: dict[str, Callable[..., None]] = {}


def written(save: Callable[..., None]) -> Callable[..., None]:
    """Have it called with the path of a folder of its name and what all flavours take."""
    WRITTEN[save.__name__] = save
    return save


def bert(folder: Path) -> tuple[Any, Any]:
    """Return a small network and its tokenizer, from a folder that is made if need be."""
    source = folder / "bert"
    if not source.exists():
        save_transformers(source)
    return transformers.BertModel.from_pretrained(source), transformers.AutoTokenizer.from_pretrained(source)


def embedded(folder: Path, texts: list[str]) -> np.ndarray:
    """Return the means of its last states, one text after the other."""
    network, tokenizer = bert(folder)
    states = [network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]
    return np.stack([state.mean(0).numpy(force=True) for state in states])


@written
def onnx(path: str, **common: Any) -> None:
    mlflow.onnx.save_model(affine_onnx(), path, **common)


@written
def exported(path: str, **common: Any) -> None:
    mlflow.pytorch.save_model(Affine(), path, serialization_format="pt2", input_example=X, **common)


@written
def scripted(path: str, **common: Any) -> None:
    # MLflow writes it into a file of the same name as a pickle.
    mlflow.pytorch.save_model(torch.jit.script(Affine()), path, serialization_format="pickle", **common)


@written
def keras3(path: str, **common: Any) -> None:
    network = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")])
    network.layers[-1].set_weights([w.numpy(force=True).T for w in Affine().state_dict().values()])
    mlflow.keras.save_model(network, path, **common)


@written
def texts(path: str, **common: Any) -> None:
    network, tokenizer = bert(Path(path).parent)
    del common["signature"]
    both = {"model": network, "tokenizer": tokenizer}
    mlflow.transformers.save_model(both, path, task="feature-extraction", **common)


@written
def pickled(path: str, **common: Any) -> None:
    mlflow.pytorch.save_model(Affine(), path, serialization_format="pickle", **common)


@written
def sklearn(path: str, **common: Any) -> None:
    trained = LogisticRegression().fit(X, [0, 1])
    mlflow.sklearn.save_model(trained, path, serialization_format="pickle", **common)


class Own(mlflow.pyfunc.PythonModel):
    """Somebody's own class."""

    def predict(self, context, model_input):
        return model_input


@written
def own(path: str, **common: Any) -> None:
    mlflow.pyfunc.save_model(path, python_model=Own(), **common)


if __name__ == "__main__":
    [folder] = map(Path, sys.argv[1:])
    mlflow.set_tracking_uri(f"sqlite:///{folder}/tracking.db")
    for name, save in WRITTEN.items():
        save(str(folder / name), signature=infer_signature(X, Y), pip_requirements=[])
    answers = {"texts": embedded(folder, ["one house", "red"])}
    for name in ("onnx", "exported", "scripted", "keras3"):
        answer = mlflow.pyfunc.load_model(str(folder / name)).predict(X)
        answers[name] = next(iter(answer.values())) if isinstance(answer, dict) else answer
    np.savez(folder / "answers.npz", **answers)
