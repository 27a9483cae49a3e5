"""The corpus of bad model files and folders, each made by code: what is wrong, and what must be told of it.

`make(place, canary)` writes into the folder `place` and returns the model's path. A payload, wherever one is hidden,
makes the folder `canary`: it must never be there.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from onnx import helper, numpy_helper
from torch import nn

from tests.support import written_models as good
from tests.support.tiny_models import (
    Affine,
    bomb,
    rewritten,
    save_affine,
    save_torchscript,
    torch_bomb,
)

Make = Callable[[Path, Path], Path]


@dataclass(frozen=True)
class BadModel:
    """One bad model.

    Attributes:
        told: a regular expression that the reason must match.
        names: what the reason must name: the file or folder at fault.
        at_a_look: it is refused before any library is loaded.
    """

    id: str
    make: Make
    told: str
    names: str
    format: str = "auto"
    factory: str = ""
    at_a_look: bool = True


def _file(name: str, content: bytes) -> Make:
    def make(place: Path, canary: Path) -> Path:
        (place / name).write_bytes(content)
        return place / name

    return make


def _cut(name: str, write: Callable[[Path], Path], share: float) -> Make:
    def make(place: Path, canary: Path) -> Path:
        path = write(place / name)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        return path

    return make


def _payload(name: str, content: Callable[[Path], bytes]) -> Make:
    def make(place: Path, canary: Path) -> Path:
        (place / name).write_bytes(content(canary))
        return place / name

    return make


def _old_torch_bomb(canary: Path) -> bytes:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(canary),)

    buffer = io.BytesIO()
    torch.save({"x": Payload()}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _archive(*names: str, link: str = "", size: int = 0) -> Make:
    """Return what makes a zip archive with these members; `link` is a symbolic link, and the first has `size` bytes."""

    def make(place: Path, canary: Path) -> Path:
        path = place / "model.pt"
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            warnings.simplefilter("ignore", UserWarning)  # zipfile's own, of a name written twice
            for index, name in enumerate(names):
                archive.writestr(name, bytes(0 if index else size))
            if link:
                info = zipfile.ZipInfo(link)
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, "/etc/passwd")
        return path

    return make


def _under_a_wrong_name(name: str, write: Callable[[Path], Path]) -> Make:
    return lambda place, canary: write(place / "right").rename(place / name)


def _exported(change: Callable[[str, bytes], bytes | None], **added: bytes) -> Make:
    def make(place: Path, canary: Path) -> Path:
        source = save_affine(canary.parent / "source.pt2")
        return rewritten(source, place / "model.pt2", change, **added)

    return make


def _without(member: str) -> Make:
    return _exported(lambda name, old: None if name == member else old)


def _exported_operator(place: Path, canary: Path) -> Path:
    def change(name: str, old: bytes) -> bytes:
        if name != "models/model.json":
            return old
        document = json.loads(old)
        node = document["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.os.mkdir"
        node["inputs"] = [{"name": "", "arg": {"as_string": str(canary)}, "kind": 1}]
        return json.dumps(document).encode()

    return _exported(change)(place, canary)


def _torchscript_pickle(place: Path, canary: Path) -> Path:
    source = save_torchscript(Affine(), canary.parent / "source.pt")
    return rewritten(
        source, place / "model.pt", lambda name, old: bomb(canary) if name == "data.pkl" else old
    )


class Raising(nn.Module):
    """Fails on every run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return nothing, ever."""
        raise ValueError("out of order")


class Writing(nn.Module):
    """Writes a file on every run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x."""
        torch.save(x, "written-by-a-model")
        return x


def _torchscript(network: nn.Module, width: int = 3) -> Make:
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, width]}]}
    return lambda place, canary: save_torchscript(network, place / "model.pt", signature)


def _onnx_external(location: str, length: int = 24) -> Make:
    """Return what makes a graph whose weights are said to be in another file, which is there, 8 bytes long."""

    def make(place: Path, canary: Path) -> Path:
        model = good.affine_onnx()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        (place.parent / "outside.data").write_bytes(bytes(64))
        (place / "short.data").write_bytes(bytes(8))
        return good.save_onnx(place / "model.onnx", model)

    return make


def _onnx_link(place: Path, canary: Path) -> Path:
    path = _onnx_external("link.data")(place, canary)
    (place / "link.data").symlink_to(place.parent / "outside.data")
    return path


def _onnx(nodes: list[Any], weights: list[Any] | None = None, out: list[Any] | None = None) -> Make:
    model = good.onnx_model(nodes, {"x": ["n", 3]}, {"y": out or ["n", 2]}, weights)
    return lambda place, canary: good.save_onnx(place / "model.onnx", model)


def _floats(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(torch.zeros(shape).numpy(), name)


def _safetensors(header: bytes | dict[str, Any], length: int | None = None, data: bytes = bytes(32)) -> Make:
    """Return what makes a safetensors file with this header, whose length is told as `length`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return _file(
        "model.safetensors", struct.pack("<Q", len(text) if length is None else length) + text + data
    )


def _entry(start: int, end: int, *shape: int) -> dict[str, Any]:
    return {"linear.weight": {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}}


def _transformers(change: Callable[[Path, Path], object], kind: str = "BertModel") -> Make:
    def make(place: Path, canary: Path) -> Path:
        folder = good.save_transformers(place / "bert", kind)
        (folder / "remote.py").write_text(f"import os; os.mkdir({str(canary)!r})")
        change(folder, canary)
        return folder

    return make


def _edited(name: str, **fields: Any) -> Callable[[Path, Path], object]:
    def change(folder: Path, canary: Path) -> None:
        file = folder / name
        content = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(content | fields))

    return change


def _pickled_weights(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(torch_bomb(canary))


def _lacking_weights(folder: Path, canary: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["embeddings.word_embeddings.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _cut_weights(folder: Path, canary: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:3000])


def _without_tokenizer(folder: Path, canary: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)


def _mlflow(flavours: dict[str, Any], inner: str = "", content: Callable[[Path], bytes] = torch_bomb) -> Make:
    def make(place: Path, canary: Path) -> Path:
        folder = good.save_mlflow(place / "logged", flavours)
        (folder / "code").mkdir()
        (folder / "code" / "something.py").write_text(f"import os; os.mkdir({str(canary)!r})")
        if inner:
            (folder / inner).parent.mkdir(exist_ok=True)
            (folder / inner).write_bytes(content(canary))
        return folder

    return make


def _mlmodel(text: str) -> Make:
    def make(place: Path, canary: Path) -> Path:
        folder = good.save_mlflow(place / "logged", {})
        (folder / "MLmodel").write_text(text.replace("CANARY", str(canary)))
        return folder

    return make


def _linked_folder(target: str) -> Make:
    def make(place: Path, canary: Path) -> Path:
        folder = good.save_transformers(place / "bert")
        (folder / "extra").symlink_to(target)
        return folder

    return make


def _pipe(place: Path, canary: Path) -> Path:
    folder = good.save_transformers(place / "bert")
    os.mkfifo(folder / "pipe")
    return folder


def _two_models(place: Path, canary: Path) -> Path:
    save_torchscript(Affine(), place / "a.pt")
    save_torchscript(Affine(), place / "b.pt")
    return place


def _example(array: np.ndarray[Any, Any], name: str = "input.x") -> Make:
    def make(place: Path, canary: Path) -> Path:
        save_torchscript(Affine(), place / "model.pt", None)
        np.savez(place / "example.npz", **{name: array})
        return place

    return make


def _unasked_python(place: Path, canary: Path) -> Path:
    return good.save_python(place, f"import os; os.mkdir({str(canary)!r})")


def _python(source: str) -> Make:
    return lambda place, canary: good.save_python(place, source)


_AFFINE_PT: Final = lambda path: save_torchscript(Affine(), path)  # noqa: E731
_PICKLE: Final = "a pickle .* could run any code and is never loaded"
_NATIVE: Final = {"data__aotinductor__model__model.so": b"\x7fELF not really"}
_W: Final = [_floats("w", 4, 2)]
_MATMUL: Final = helper.make_node("MatMul", ["x", "w"], ["y"])
_BY_FACTORY: Final = {"factory": good.FACTORY, "at_a_look": False}
_LOADED: Final = {"at_a_look": False}

BAD_MODELS: Final = [
    # Files that are none, or are under a wrong name.
    BadModel("empty", _file("model.pt", b""), "an empty file", "model.pt"),
    BadModel("page", _file("model.onnx", b"<html>Not Found"), "page of HTML .*'Not Found'", "model.onnx"),
    BadModel("gzip", _file("model.pt", gzip.compress(b"x")), "gzip archive: unpack it first", "model.pt"),
    BadModel("noise", _file("model.onnx", b"\x00\xffnoise"), "binary file of unknown kind", "model.onnx"),
    BadModel(
        "text", _file("model.safetensors", b"weights"), "a text file", "model.safetensors", "safetensors"
    ),
    BadModel(
        "torchscript-called-onnx",
        _under_a_wrong_name("model.onnx", _AFFINE_PT),
        "model.format is onnx, but the file is of format torchscript",
        "model.onnx",
        "onnx",
    ),
    BadModel(
        "onnx-called-exported",
        _under_a_wrong_name("model.pt2", good.save_onnx),
        "model.format is exported, but the file is of format onnx",
        "model.pt2",
        "exported",
    ),
    BadModel(
        "file-called-transformers",
        _file("model.pt", b"weights"),
        "model.format is transformers",
        "model.pt",
        "transformers",
    ),
    # Cut off.
    *(
        BadModel(f"torchscript-cut-{share}", _cut("model.pt", _AFFINE_PT, share), "cut off", "model.pt")
        for share in (0.01, 0.5, 0.999)
    ),
    *(
        BadModel(f"exported-cut-{share}", _cut("model.pt2", save_affine, share), "cut off", "model.pt2")
        for share in (0.01, 0.5, 0.999)
    ),
    *(
        BadModel(
            f"onnx-cut-{share}",
            _cut("model.onnx", good.save_onnx, share),
            "broken ONNX file: it is cut off",
            "model.onnx",
            **_LOADED,
        )
        for share in (0.2, 0.5, 0.95)
    ),
    *(
        BadModel(
            f"safetensors-cut-{share}",
            _cut("model.safetensors", good.save_safetensors, share),
            "broken safetensors file",
            "model.safetensors",
            **_BY_FACTORY,
        )
        for share in (0.3, 0.9)
    ),
    # Archives.
    BadModel("bomb", _archive("m/data.pkl", size=200 << 20), "would expand to 209,715,200", "model.pt"),
    BadModel("absolute", _archive("/etc/cron.d/x"), "'/etc/cron.d/x', which leads out", "model.pt"),
    BadModel("upwards", _archive("m/data.pkl", "m/../../x"), "'m/../../x', which leads out", "model.pt"),
    BadModel("backslash", _archive("m\\..\\x"), "which leads out of it", "model.pt"),
    BadModel("twice", _archive("m/data.pkl", "m/data.pkl"), "the same name twice", "model.pt"),
    BadModel("link-in-archive", _archive("m/x", link="m/link"), "'m/link' .* is a symbolic link", "model.pt"),
    BadModel("other-zip", _archive("readme.txt"), "not one that torch or Keras wrote", "model.pt"),
    # Pickles with a payload.
    BadModel("pickle", _payload("model.pt", bomb), _PICKLE, "model.pt"),
    BadModel("torch-save", _payload("model.pt", torch_bomb), _PICKLE, "model.pt"),
    BadModel("old-torch-save", _payload("model.pt", _old_torch_bomb), _PICKLE, "model.pt"),
    BadModel(
        "state-dict-with-payload",
        _payload("model.pt", torch_bomb),
        r"its pickle asks for \w+\.mkdir, which is never loaded",
        "model.pt",
        "statedict",
        **_BY_FACTORY,
    ),
    BadModel(
        "state-dict-of-a-list",
        _payload("model.pt", lambda _: _saved([torch.zeros(1)])),
        "holds no tensors by name",
        "model.pt",
        "statedict",
        **_BY_FACTORY,
    ),
    BadModel("torchscript-pickle", _torchscript_pickle, "torch cannot load this", "model.pt", **_LOADED),
    BadModel("pickle-of-sklearn", _file("model.pkl", pickle.dumps([1])), _PICKLE, "model.pkl"),
    # Programs.
    BadModel("exported-operator", _exported_operator, "'torch.os.mkdir' is not one", "model.pt2", **_LOADED),
    BadModel(
        "exported-weight-missing",
        _without("data/weights/weight_0"),
        "torch cannot load this",
        "model.pt2",
        **_LOADED,
    ),
    BadModel(
        "exported-no-program",
        _exported(lambda n, old: b"{}" if n == "models/model.json" else old),
        "models/model.json is no exported program",
        "model.pt2",
        **_LOADED,
    ),
    BadModel("native-unasked", _exported(lambda _, old: old, **_NATIVE), "holds native code", "model.pt2"),
    BadModel("torchscript-raises", _torchscript(Raising()), "warm-up .*out of order", "model.pt", **_LOADED),
    BadModel("torchscript-writes", _torchscript(Writing()), r"calls torch\.save", "model.pt", **_LOADED),
    BadModel("torchscript-shape", _torchscript(Affine(), 7), "warm-up with x FP32", "model.pt", **_LOADED),
    # ONNX.
    BadModel(
        "onnx-absolute", _onnx_external("/etc/passwd"), "outside of its folder", "model.onnx", **_LOADED
    ),
    BadModel(
        "onnx-upwards", _onnx_external("../outside.data"), "outside of its folder", "model.onnx", **_LOADED
    ),
    BadModel("onnx-link", _onnx_link, "'link.data', .* is a symbolic link", "model.onnx", **_LOADED),
    BadModel(
        "onnx-missing", _onnx_external("gone.data"), "'gone.data', which is missing", "model.onnx", **_LOADED
    ),
    BadModel(
        "onnx-short-data", _onnx_external("short.data"), "cannot load this model", "model.onnx", **_LOADED
    ),
    BadModel(
        "onnx-unknown-operator",
        _onnx([helper.make_node("Mkdir", ["x"], ["y"])]),
        "Mkdir",
        "model.onnx",
        **_LOADED,
    ),
    BadModel(
        "onnx-shapes", _onnx([_MATMUL], _W), "cannot load this model: .*[Dd]imension", "model.onnx", **_LOADED
    ),
    BadModel(
        "onnx-raises",
        _onnx(
            [helper.make_node("Reshape", ["x", "s"], ["y"])],
            [numpy_helper.from_array(torch.tensor([7, 2]).numpy(), "s")],
            [7, 2],
        ),
        "warm-up with x FP32",
        "model.onnx",
        **_LOADED,
    ),
    # Weights whose header lies.
    BadModel(
        "header-endless", _safetensors({}, 1 << 60), "broken safetensors", "model.safetensors", **_BY_FACTORY
    ),
    BadModel(
        "header-beyond", _safetensors({}, 5000), "broken safetensors", "model.safetensors", **_BY_FACTORY
    ),
    BadModel(
        "header-no-json", _safetensors(b"{nothing"), "broken safetensors", "model.safetensors", **_BY_FACTORY
    ),
    BadModel(
        "offsets-beyond",
        _safetensors(_entry(0, 999, 2, 3)),
        "broken safetensors",
        "model.safetensors",
        **_BY_FACTORY,
    ),
    BadModel(
        "offsets-backwards",
        _safetensors(_entry(24, 0, 2, 3)),
        "broken safetensors",
        "model.safetensors",
        **_BY_FACTORY,
    ),
    BadModel(
        "shape-other-than-data",
        _safetensors(_entry(0, 32, 2, 3)),
        "broken safetensors",
        "model.safetensors",
        **_BY_FACTORY,
    ),
    BadModel(
        "weights-missing",
        _safetensors(_entry(0, 24, 2, 3), data=bytes(24)),
        "does not fit the network .*linear.bias",
        "model.safetensors",
        **_BY_FACTORY,
    ),
    BadModel(
        "weights-without-factory",
        lambda place, _: good.save_safetensors(place / "model.safetensors"),
        "name what makes the network in model.factory",
        "model.safetensors",
        **_LOADED,
    ),
    # Folders.
    BadModel("folder-empty", lambda place, _: place, "a folder of 0 files without a model", "model"),
    BadModel("folder-of-two", _two_models, "several models, a.pt, b.pt", "model"),
    BadModel("link-out", _linked_folder("/etc"), "'extra' is a symbolic link", "bert"),
    BadModel("link-within", _linked_folder("config.json"), "'extra' is a symbolic link", "bert"),
    BadModel("pipe", _pipe, "'pipe' is neither a file nor a folder", "bert"),
    BadModel("example-of-objects", _example(np.array([{}])), "example.npz .* a pickle, which", "model"),
    BadModel("example-of-nothing", _example(np.zeros(1), "output.y"), "no array input.NAME", "model"),
    BadModel("python-unasked", _unasked_python, r"holds a program \(model.py\)", "model"),
    BadModel(
        "python-raises", _python("1 / 0"), "model.py, line 1, .*ZeroDivision", "model", "python", **_LOADED
    ),
    # transformers.
    BadModel(
        "auto-map",
        _transformers(_edited("config.json", auto_map={"AutoModel": "remote.Model"})),
        "config.json: auto_map asks for code",
        "bert",
        **_LOADED,
    ),
    BadModel(
        "tokenizer-auto-map",
        _transformers(_edited("tokenizer_config.json", auto_map={"AutoTokenizer": ["remote.T", None]})),
        "tokenizer_config.json: auto_map asks for code",
        "bert",
        **_LOADED,
    ),
    BadModel(
        "pytorch-model-bin",
        _transformers(_pickled_weights),
        "pytorch_model.bin is a pickle",
        "bert",
        **_LOADED,
    ),
    BadModel(
        "config-broken",
        _transformers(lambda f, _: (f / "config.json").write_text("{")),
        "config.json is not JSON",
        "bert",
        **_LOADED,
    ),
    BadModel(
        "kind-unknown",
        _transformers(_edited("config.json", model_type="remote")),
        "cannot load this folder",
        "bert",
        **_LOADED,
    ),
    BadModel("width-other", _transformers(_edited("config.json", hidden_size=16)), "bert", "bert", **_LOADED),
    BadModel(
        "weights-lacking",
        _transformers(_lacking_weights),
        "its weights lack embeddings.word",
        "bert",
        **_LOADED,
    ),
    BadModel("weights-cut", _transformers(_cut_weights), "cannot load this folder", "bert", **_LOADED),
    BadModel("no-tokenizer", _transformers(_without_tokenizer), "bert has no tokenizer", "bert", **_LOADED),
    BadModel(
        "index-upwards",
        _transformers(_edited("model.safetensors.index.json", weight_map={"x": "../../outside.safetensors"})),
        "index.json names '../../outside.safetensors', which leads out",
        "bert",
        **_LOADED,
    ),
    BadModel(
        "modules-upwards",
        _transformers(
            lambda f, _: (f / "modules.json").write_text('[{"type": "x.Pooling", "path": "../1"}]')
        ),
        r"modules.json names '\.\./1', which leads out",
        "bert",
        **_LOADED,
    ),
    BadModel(
        "modules-unknown",
        _transformers(lambda f, _: (f / "modules.json").write_text('[{"type": "remote.Mkdir", "path": ""}]')),
        "modules.json: a module Mkdir is not served",
        "bert",
        **_LOADED,
    ),
    # MLflow.
    BadModel("loader-module", _mlflow({}), "flavours python_function, .*never loaded", "logged/MLmodel"),
    BadModel(
        "sklearn",
        _mlflow({"sklearn": {"pickled_model": "model.pkl"}}, "model.pkl"),
        "flavours .*sklearn.*pickle",
        "logged/MLmodel",
    ),
    BadModel(
        "mlflow-pickled-torch",
        _mlflow({"pytorch": {"model_data": "data"}}, "data/model.pth"),
        _PICKLE,
        "model.pth",
    ),
    BadModel(
        "mlflow-upwards",
        _mlflow({"onnx": {"data": "../model.onnx"}}),
        "flavors.onnx.data .*leads out",
        "logged/MLmodel",
    ),
    BadModel(
        "mlflow-missing",
        _mlflow({"onnx": {"data": "model.onnx"}}),
        "model of flavour onnx is missing: model.onnx",
        "logged",
    ),
    BadModel(
        "mlmodel-object",
        _mlmodel("flavors: !!python/object/apply:os.mkdir [CANARY]"),
        "no YAML of plain values",
        "logged/MLmodel",
    ),
    BadModel("mlmodel-list", _mlmodel("- flavors"), "must be a mapping", "logged/MLmodel"),
    BadModel(
        "mlmodel-laughs",
        _mlmodel("a: &a [x, x]\nb: &b [*a, *a]\nflavors: {onnx: {data: *b}}"),
        "flavors.onnx.data is .*leads out",
        "logged/MLmodel",
    ),
]


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
