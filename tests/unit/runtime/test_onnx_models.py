"""ONNX graphs, run by ONNX Runtime: what they give, what they say of themselves, how they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from pilothouse_runtime.core.errors import Code, LoadError, RequestError
from pilothouse_runtime.core.settings import Device, Format
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.backends import onnx
from pilothouse_runtime.engine.formats import detect, locate
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.written_models import X, Y, affine_onnx, onnx_model, save_onnx

AFFINE = Signature((TensorSpec("x", Datatype.FP32, (-1, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 2)),))


@pytest.mark.parametrize("data", ["", "model.onnx.data"])
def test_a_graph_gives_what_the_network_gives(tmp_path: Path, data: str) -> None:
    file = save_onnx(tmp_path / "packed" / "model.onnx", data=data)
    assert locate(file.parent, Format.AUTO) == file
    assert detect(file, Format.AUTO) is Format.ONNX
    model = onnx.load(file, Device.AUTO, None)
    assert model.signature == AFFINE
    assert warm_up(model, 8).max_batch == 8
    output = model.run([Tensor("x", Datatype.FP32, X)])[0]
    assert (output.name, output.datatype) == ("y", Datatype.FP32)
    np.testing.assert_allclose(output.array, Y)


def test_the_user_may_narrow_what_the_graph_says(tmp_path: Path) -> None:
    file = save_onnx(tmp_path / "model.onnx")
    narrow = Signature((TensorSpec("x", Datatype.FP32, (4, 3)),), ())
    assert onnx.load(file, Device.CPU, narrow).signature == Signature(narrow.inputs, AFFINE.outputs)
    with pytest.raises(LoadError, match="contradict the file: inputs: 'x' is declared as FP32"):
        onnx.load(file, Device.CPU, Signature((TensorSpec("x", Datatype.FP32, (-1, 4)),), ()))


@pytest.mark.parametrize(
    ("kind", "datatype"),
    [
        (TensorProto.BOOL, Datatype.BOOL),
        (TensorProto.INT8, Datatype.INT8),
        (TensorProto.UINT8, Datatype.UINT8),
        (TensorProto.INT64, Datatype.INT64),
        (TensorProto.FLOAT16, Datatype.FP16),
        (TensorProto.DOUBLE, Datatype.FP64),
    ],
)
def test_datatypes(tmp_path: Path, kind: int, datatype: Datatype) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    file = save_onnx(tmp_path / "m.onnx", onnx_model(nodes, {"x": ["n"]}, {"y": ["n"]}, kind=kind))
    model = onnx.load(file, Device.CPU, None)
    warm_up(model)
    array = np.array([0, 1, 1], datatype.dtype)
    output = model.run([Tensor("x", datatype, array)])[0]
    assert (output.datatype, output.array.dtype, output.array.tolist()) == (
        datatype,
        array.dtype,
        array.tolist(),
    )


def test_texts(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = onnx_model(nodes, {"x": ["n"]}, {"y": ["n"]}, kind=TensorProto.STRING)
    model = onnx.load(save_onnx(tmp_path / "m.onnx", graph), Device.CPU, None)
    warm_up(model)
    texts = np.array(["straße".encode(), b""], object)
    output = model.run([Tensor("x", Datatype.BYTES, texts)])[0]
    assert (output.datatype, output.array.tolist()) == (Datatype.BYTES, texts.tolist())
    with pytest.raises(RequestError, match="input 'x': texts must be UTF-8"):
        model.run([Tensor("x", Datatype.BYTES, np.array([b"\xff"], object))])


def test_whose_fault_it_is(tmp_path: Path) -> None:
    model = onnx.load(save_onnx(tmp_path / "m.onnx"), Device.CPU, None)
    with pytest.raises(RequestError, match="the tensors do not fit the model") as caught:
        model.run([Tensor("x", Datatype.FP32, np.zeros((2, 4), np.float32))])
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_maps_cannot_be_sent(tmp_path: Path) -> None:
    model = affine_onnx()
    kind = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    zipped = helper.make_node("ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    model.graph.node.append(zipped)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    del model.graph.output[:]
    model.graph.output.append(helper.make_value_info("z", helper.make_sequence_type_proto(kind)))
    with pytest.raises(LoadError, match=r"output z is a seq\(map.*zipmap=False"):
        onnx.load(save_onnx(tmp_path / "m.onnx", model), Device.CPU, None)


def test_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="is cuda, but this container sees no GPU"):
        onnx.load(save_onnx(tmp_path / "m.onnx"), Device.CUDA, None)


def test_torch_is_not_needed(tmp_path: Path) -> None:
    file = save_onnx(tmp_path / "m.onnx")
    program = (
        "import sys, pathlib\n"
        "from pilothouse_runtime.core.settings import Device, Format\n"
        "from pilothouse_runtime.engine.selection import select\n"
        "from pilothouse_runtime.engine.warmup import warm_up\n"
        f"warm_up(select(pathlib.Path({str(file)!r}), Format.AUTO).load(Device.AUTO), 8)\n"
        "assert not {'torch', 'transformers', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": os.pathsep.join(sys.path)}, check=True)
