"""What a folder of transformers says of itself, before the library sees it: what to compute, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pilothouse_runtime.engine.failures import unloadable

_MOST_BYTES: Final = 64 * 1024 * 1024  # of a JSON file, which is read whole
_CLASSIFICATION: Final = "ForSequenceClassification"
# Heads that are left away where the states below them are what an embedding is made of.
_EMBEDDING: Final = ("Model", "ForMaskedLM", "ForPreTraining")
_TOKENIZER: Final = "tokenizer_config.json"
_WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Recipe:
    """How texts become answers.

    Attributes:
        labels: of classes, by number; () for an embedding, and where there is only one.
        pooling: how the states of tokens become an embedding: mean, cls or max.
        longest: tokens of a text, 0 where only the network limits them; the rest is cut off.
    """

    is_embedding: bool
    labels: tuple[str, ...] = ()
    pooling: str = "mean"
    normalize: bool = False
    longest: int = 0


def read_recipe(folder: Path) -> Recipe:
    """Return what to compute with the model in a folder.

    Raises:
        LoadError: ModelLoadFailed; a file is missing or broken, asks for code of its own, or for what is not served.
    """
    config = _object(folder, "config.json")
    for name, content in {"config.json": config, _TOKENIZER: _object(folder, _TOKENIZER, {})}.items():
        if "auto_map" in content:
            raise unloadable(
                f"{folder.name}/{name}: auto_map asks for code of the folder's own, which is never run; wrap the model"
                " in a folder of model.format python if you trust it"
            )
    _check_weight_files(folder)
    architecture = _text(next(iter(config.get("architectures") or ["Model"]), ""))
    longest = _number(_object(folder, "sentence_bert_config.json", {}).get("max_seq_length"))
    if architecture.endswith(_CLASSIFICATION):
        return Recipe(False, _labels(config), longest=longest)
    if not architecture.endswith(_EMBEDDING):
        raise unloadable(
            f"{folder.name}: {architecture} is not served; embeddings and {_CLASSIFICATION} are, all else by"
            " model.format python, exported or onnx"
        )
    pooling, normalize = _sentence_modules(folder)
    return Recipe(True, (), pooling, normalize, longest)


def _check_weight_files(folder: Path) -> None:
    if not any((folder / name).exists() for name in _WEIGHTS):
        if any(folder.glob("pytorch_model*.bin")):
            raise unloadable(
                f"{folder.name}/pytorch_model.bin is a pickle, which could run any code and is never loaded; save the"
                " model again with save_pretrained, which writes model.safetensors"
            )
        raise unloadable(f"{folder.name} has no weights: {_WEIGHTS[0]} is missing")
    index = _object(folder, _WEIGHTS[1], {})
    names = index.get("weight_map", {})
    for name in set(names.values()) if isinstance(names, dict) else ():
        if not isinstance(name, str) or Path(name).name != name:
            raise unloadable(f"{folder.name}/{_WEIGHTS[1]} names {name!r}, which leads out of the folder")
        if not (folder / name).exists():
            raise unloadable(f"{folder.name}: {name}, with its weights, is missing")


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    labels = config.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    try:
        return tuple(labels[str(index)] for index in range(len(labels))) if len(labels) > 1 else ()
    except (KeyError, TypeError):
        raise unloadable("config.json: id2label must name the classes 0, 1, 2, ...") from None


def _sentence_modules(folder: Path) -> tuple[str, bool]:
    """Return pooling and whether to normalize, as sentence-transformers' files say; without them mean, and not."""
    if not (folder / "modules.json").exists():
        return "mean", False
    modules = _json(folder, "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise unloadable(f"{folder.name}/modules.json must be a list of modules")
    pooling, normalize = "mean", False
    for module in modules:
        kind = _text(module.get("type")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            name = _text(module.get("path"))
            if Path(name).name != name:
                raise unloadable(f"{folder.name}/modules.json names {name!r}, which leads out of the folder")
            pooling = _pooling(folder, _object(folder, f"{name}/config.json"))
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise unloadable(f"{folder.name}/modules.json: a module {kind} is not served")
    return pooling, normalize


def _pooling(folder: Path, config: dict[str, Any]) -> str:
    modes = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
    }
    named = config.get("pooling_mode")
    chosen: Sequence[Any] = (
        [named]
        if named
        else [modes.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on]
    )
    if len(chosen) != 1 or chosen[0] not in modes.values():
        raise unloadable(
            f"{folder.name}: pooling by {', '.join(map(str, chosen)) or 'nothing'} is not served"
        )
    return str(chosen[0])


def _object(folder: Path, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    if default is not None and not (folder / name).exists():
        return default
    content = _json(folder, name)
    if not isinstance(content, dict):
        raise unloadable(f"{folder.name}/{name} must be a JSON object")
    return content


def _json(folder: Path, name: str) -> Any:
    file = folder / name
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise unloadable(f"{folder.name}/{name} is longer than any such file")
        return json.loads(file.read_bytes())
    except OSError as error:
        raise unloadable(f"{folder.name}/{name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise unloadable(f"{folder.name}/{name} is not JSON: {error}") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
