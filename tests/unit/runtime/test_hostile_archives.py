"""Model files that try to run code: none may, whatever part of the archive the code sits in."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.engine.backends import exported, torchscript
from pilothouse_runtime.engine.formats import detect
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.tiny_models import bomb, rewritten, save_torchscript, torch_bomb

CPU = torch.device("cpu")
Change = Callable[[str, bytes], bytes | None]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The folder that exists once hostile code has run."""
    return tmp_path / "code-has-run"


def served(path: Path) -> None:
    """Do with a file all that the runtime would do before it takes requests."""
    found = detect(path, Format.AUTO)
    load = torchscript.load if found is Format.TORCHSCRIPT else exported.load
    warm_up(load(path, CPU, None))


def pickles(path: Path) -> list[str]:
    """Return the members of an archive that hold pickles, without their folder."""
    with zipfile.ZipFile(path) as archive:
        return [n.split("/", 1)[1] for n in archive.namelist() if n.endswith((".pkl", ".pt", "debug_pkl"))]


def replacing(member: str, content: bytes) -> Change:
    return lambda name, old: content if name == member else old


def program(edit: Callable[[dict[str, Any]], None]) -> Change:
    """Return a change of models/model.json."""

    def change(name: str, old: bytes) -> bytes:
        if name != "models/model.json":
            return old
        document = json.loads(old)
        edit(document)
        return json.dumps(document).encode()

    return change


def test_pickle_bomb_does_go_off_where_pickles_are_trusted(mark: Path, tmp_path: Path) -> None:
    file = tmp_path / "pickle.pt"
    file.write_bytes(torch_bomb(mark))
    torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("make", [bomb, torch_bomb])
@pytest.mark.parametrize(
    "member", ["data.pkl", "constants.pkl", "code/__torch__/tests/support/tiny_models.py.debug_pkl"]
)
def test_pickles_in_torchscript(
    models: Path, tmp_path: Path, mark: Path, member: str, make: Callable[[Path], bytes]
) -> None:
    source = models / "affine.pt"
    assert member in pickles(source)
    file = rewritten(source, tmp_path / "hostile.pt", replacing(member, make(mark)))
    if "debug" in member:
        served(file)  # never read
    else:
        with pytest.raises(LoadError) as caught:
            served(file)
        assert caught.value.permanent
    assert not mark.exists()


def test_every_pickle_of_torchscript_is_tried(models: Path) -> None:
    names = [n for n in pickles(models / "affine.pt") if not n.startswith("code/__torch__/torch")]
    assert sorted(names) == [
        "code/__torch__/tests/support/tiny_models.py.debug_pkl",
        "constants.pkl",
        "data.pkl",
    ]


@pytest.mark.parametrize("make", [bomb, torch_bomb])
def test_sample_inputs_of_exported_programs_are_never_read(
    models: Path, tmp_path: Path, mark: Path, make: Callable[[Path], bytes]
) -> None:
    source = models / "affine.pt2"
    assert pickles(source) == ["data/sample_inputs/model.pt"]
    served(rewritten(source, tmp_path / "hostile.pt2", replacing("data/sample_inputs/model.pt", make(mark))))
    assert not mark.exists()


@pytest.mark.parametrize(
    "table", ["data/weights/model_weights_config.json", "data/constants/model_constants_config.json"]
)
@pytest.mark.parametrize("place", ["weight_0", "tensor_0", "custom_obj_0", "opaque_obj_0"])
def test_pickled_tensors_and_objects(
    models: Path, tmp_path: Path, mark: Path, table: str, place: str
) -> None:
    entry = {"path_name": place, "is_param": False, "use_pickle": True, "tensor_meta": None}
    content = json.dumps({"config": {"linear.weight": entry}}).encode()
    folder = table.rsplit("/", 1)[0]

    def change(name: str, old: bytes) -> bytes:
        return content if name == table else torch_bomb(mark) if name == f"{folder}/{place}" else old

    added = {f"{folder}/{place}".replace("/", "__"): torch_bomb(mark)} if place != "weight_0" else {}
    file = rewritten(models / "affine.pt2", tmp_path / "hostile.pt2", change, **added)
    with pytest.raises(LoadError, match="stored as a pickle or an object") as caught:
        served(file)
    assert caught.value.permanent
    assert not mark.exists()


@pytest.mark.parametrize("place", ["data__weights__model.pt", "data__constants__model.pt"])
def test_tables_of_early_archives(models: Path, tmp_path: Path, mark: Path, place: str) -> None:
    file = rewritten(
        models / "affine.pt2", tmp_path / "hostile.pt2", lambda _, old: old, **{place: torch_bomb(mark)}
    )
    with pytest.raises(LoadError, match="stored as a pickle"):
        served(file)
    assert not mark.exists()


def hostile_target(document: dict[str, Any], mark: Path) -> None:
    node = document["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.os.mkdir"
    node["inputs"] = [{"name": "", "arg": {"as_string": str(mark)}, "kind": 1}]


def hostile_size(document: dict[str, Any], mark: Path) -> None:
    size = {"as_expr": {"expr_str": f"__import__('os').mkdir({str(mark)!r})", "hint": None}}
    document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = size


def hostile_tree(document: dict[str, Any], mark: Path) -> None:
    document["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(
        [
            1,
            {
                "type": "builtins.dict",
                "context": '[{"__enum__": true, "fqn": "antigravity:X", "name": "Y"}]',
                "children_spec": [{"type": None, "context": None, "children_spec": []}],
            },
        ]
    )


def hostile_name(document: dict[str, Any], mark: Path) -> None:
    text = json.dumps(document).replace(
        '"name": "x"', json.dumps({"name": f"x=__import__('os').mkdir({str(mark)!r})"})[1:-1]
    )
    document.update(json.loads(text))


def hostile_argument_names(document: dict[str, Any], mark: Path) -> None:
    signature = document["graph_module"]["module_call_graph"][0]["signature"]
    signature["forward_arg_names"] = [f"x=__import__('os').mkdir({str(mark)!r})"]


def hostile_attribute(document: dict[str, Any], mark: Path) -> None:
    for spec in document["graph_module"]["signature"]["input_specs"]:
        if "parameter" in spec:
            spec["parameter"]["parameter_name"] = f'linear.w")[__import__("os").mkdir("{mark}")]'


def hostile_file(document: dict[str, Any], mark: Path) -> None:
    node = document["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.ops.aten.from_file.default"
    node["inputs"] = [{"name": "filename", "arg": {"as_string": "/etc/hostname"}, "kind": 1}]


def custom_object(document: dict[str, Any], mark: Path) -> None:
    argument = {"as_custom_obj": {"name": "x", "class_fqn": "__torch__.torch.classes.X"}}
    document["graph_module"]["graph"]["inputs"].append(argument)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (hostile_target, "operator 'torch.os.mkdir'"),
        (hostile_size, "more than an expression of sizes"),
        (hostile_tree, "dict"),
        (hostile_name, "not a name"),
        (hostile_argument_names, "forward_arg_names"),
        (hostile_attribute, "parameter_name"),
        (hostile_file, "from_file"),
        (custom_object, "custom object"),
    ],
)
def test_programs_that_become_python(
    models: Path, tmp_path: Path, mark: Path, edit: Callable[[dict[str, Any], Path], None], told: str
) -> None:
    file = rewritten(
        models / "affine.pt2", tmp_path / "hostile.pt2", program(lambda document: edit(document, mark))
    )
    with pytest.raises(LoadError, match=told) as caught:
        served(file)
    assert caught.value.permanent
    assert not mark.exists()


def test_guards_are_dropped(models: Path, tmp_path: Path, mark: Path) -> None:
    guard = f"__import__('os').mkdir({str(mark)!r}) is None"
    change = program(lambda document: document.update(guards_code=[guard]))
    served(rewritten(models / "affine.pt2", tmp_path / "hostile.pt2", change))
    assert not mark.exists()


def test_torch_itself_would_have_run_it(models: Path, tmp_path: Path, mark: Path) -> None:
    file = rewritten(
        models / "affine.pt2", tmp_path / "hostile.pt2", program(lambda d: hostile_size(d, mark))
    )
    with contextlib.suppress(Exception):  # whether it fails after that does not matter: the code has run
        torch.export.load(str(file))
    assert mark.exists()


class Writer(torch.nn.Module):
    """Writes a file on every run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "written-by-a-model")
        return x


def test_torchscript_that_writes_files(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"calls torch\.save"):
        served(save_torchscript(Writer(), tmp_path / "writer.pt"))


def test_native_code(models: Path, tmp_path: Path) -> None:
    added = {"data__aotinductor__model__model.so": b"\x7fELF"}
    file = rewritten(models / "affine.pt2", tmp_path / "native.pt2", lambda _, old: old, **added)
    with pytest.raises(LoadError, match="native code"):
        served(file)


def test_rewriting_alone_changes_nothing(models: Path, tmp_path: Path) -> None:
    for name in ("affine.pt", "affine.pt2", "mixer.pt2"):
        served(rewritten(models / name, tmp_path / name, lambda _, old: old))
