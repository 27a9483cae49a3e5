"""Ours and the bound, as settings to be measured. The peers are in `settings`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.bench.bodies import Form
from dev.bench.servers import Setting
from dev.shell import ROOT

OURS: Final = "Pilothouse"
BOUND: Final = "the bound"
# How tensors are sent to servers that speak the Open Inference Protocol.
FORMS: Final = {"small": Form.OIP_JSON, "resnet18": Form.OIP_BINARY, "transformer": Form.OIP_BINARY}
# What our server is given in every table: all features on, everything else as it is shipped.
_FEATURES: Final = {"PILOTHOUSE_ACCESS_LOG": "1"}
# The one setting of ours that counts for a model, for all loads of it: what who asks for throughput is told to set.
_CHOSEN: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "small": ("2 workers", {"PILOTHOUSE_WORKERS": "2"})
}
_SHIPPED: Final[tuple[str, Mapping[str, str]]] = ("as shipped", {})
# The format that each model is deployed in, for all loads of it.
_FILES: Final = {"small": "small.pt", "resnet18": "resnet18.pt", "transformer": "transformer.pt"}


def ours(
    model: str, folder: Path, label: str = "", more: Mapping[str, str] | None = None, file: str = ""
) -> Setting:
    """Return a way to run our server.

    Args:
        folder: where the models are.
        label: what it is called; without one it is the setting that counts.
        more: environment in addition to all features.
        file: the model's file, if not the usual one.
    """
    if not label:
        label, more = _CHOSEN.get(model, _SHIPPED)
    environment = {
        "PYTHONPATH": str(ROOT / "runtime"),
        "PILOTHOUSE_MODEL_NAME": model,
        "PILOTHOUSE_MODEL_URI": f"file://{folder / (file or _FILES[model])}",
        **_FEATURES,
        **(more or {}),
    }
    argv = [sys.executable, "-m", "pilothouse_runtime", "--host", "127.0.0.1", "--port", "{port}"]
    argv += ["--grpc-port", "{port2}"]
    argv += ["--cache-dir", "{scratch}/cache", "--termination-log", "{scratch}/last-words"]
    return Setting(OURS, label, argv, f"/v2/models/{model}/infer", FORMS[model], environment)


def variants(model: str, folder: Path) -> list[Setting]:
    """Return other ways to run our server, told beside the one that counts."""
    return [
        ours(model, folder, "torch.export", file=f"{model}.pt2"),
        *([ours(model, folder, *_SHIPPED)] if model in _CHOSEN else []),
        ours(model, folder, "without batching", {"PILOTHOUSE_BATCH_MAX_SIZE": "1"}),
    ]


def features(folder: Path) -> list[Setting]:
    """Return our server with one feature switched off at a time, the first with all of them."""
    return [
        ours("small", folder, "all features"),
        ours("small", folder, "without access log", {"PILOTHOUSE_ACCESS_LOG": "0"}),
        ours("small", folder, "without a connection's age", {"PILOTHOUSE_MAX_CONNECTION_AGE_SECONDS": "0"}),
        ours("small", folder, "without batching", {"PILOTHOUSE_BATCH_MAX_SIZE": "1"}),
    ]


def bound(folder: Path) -> Setting:
    """Return the bound for `small`; TorchScript on one thread is the fastest way to run that."""
    argv = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dev.bench.bound",
        "small",
        "torchscript",
        str(folder),
        "{port}",
    ]
    return Setting(BOUND, "no features", argv, "/", Form.OIP_JSON, {"OMP_NUM_THREADS": "1"})
