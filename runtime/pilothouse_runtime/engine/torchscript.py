"""The TorchScript backend: archives written by torch.jit.save."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.signature import SignatureError, parse_signature, reconcile
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.engine.exported_check import FILE_OPERATORS
from pilothouse_runtime.engine.formats import unloadable
from pilothouse_runtime.engine.model import LoadedModel, first_cause

SIGNATURE_FILE: Final = "signature.json"  # given to torch.jit.save as an extra file

# torch.jit.load runs no Python: pickles are read by torch's own reader, which makes tensors and TorchScript's
# types only. What is left are operators that read and write files by name.
_FILE_OPERATORS: Final = re.compile(rb"\b(?:torch|ops\.aten)\.(%s)\(" % "|".join(FILE_OPERATORS).encode())


class TorchScriptModel(LoadedModel):
    """A scripted or traced module; inputs go by position to its forward."""

    format = Format.TORCHSCRIPT
    platform = "pytorch_torchscript"

    def __init__(
        self, module: torch.jit.ScriptModule, signature: Signature | None, device: torch.device
    ) -> None:
        super().__init__(signature, device)
        self._module = module

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run forward."""
        return self._module(*inputs)


def load(path: Path, device: torch.device, declared: Signature | None) -> TorchScriptModel:
    """Load an archive that `formats.detect` found to be TorchScript.

    Args:
        declared: the user's signature, if any; the archive's own is in its extra file signature.json.
    Raises:
        LoadError: ModelLoadFailed.
    """
    _refuse_file_operators(path)
    extra = {SIGNATURE_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of TorchScript as such: users bring what they have
            module = torch.jit.load(  # type: ignore[no-untyped-call] # torch's own
                str(path), map_location=device, _extra_files=extra
            )
    except MemoryError as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(
            f"{path.name}: torch cannot load this TorchScript archive: {first_cause(error)}"
        ) from error
    module.eval()
    try:
        found = parse_signature(extra[SIGNATURE_FILE]) if extra[SIGNATURE_FILE] else None
    except SignatureError as error:
        raise unloadable(f"{path.name}: the {SIGNATURE_FILE} in the archive: {error}") from None
    try:
        signature = reconcile(declared, found, names_made_up=False)
    except SignatureError as error:
        raise unloadable(
            f"{path.name}: model.inputs and model.outputs contradict the file: {error}"
        ) from None
    if signature:
        signature = _in_order_of_forward(path, module, signature)
    return TorchScriptModel(module, signature, device)


def _refuse_file_operators(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if (
                "/code/" in name
                and name.endswith(".py")
                and (match := _FILE_OPERATORS.search(archive.read(name)))
            ):
                raise unloadable(
                    f"{path.name}: its code calls torch.{match[1].decode()}: a model may not use files"
                )


def _in_order_of_forward(path: Path, module: torch.jit.ScriptModule, signature: Signature) -> Signature:
    """Return the signature with its inputs in the order of forward's arguments, where the names are theirs."""
    arguments = module.forward.schema.arguments[1:]  # type: ignore[attr-defined] # of a ScriptMethod
    names = [spec.name for spec in signature.inputs]
    needed = sum(not argument.has_default_value() for argument in arguments)
    if not needed <= len(names) <= len(arguments):
        takes = ", ".join(argument.name for argument in arguments) or "nothing"
        raise unloadable(
            f"{path.name}: the signature has the inputs {', '.join(names)}, but the model's forward takes {takes}"
        )
    order = [argument.name for argument in arguments[: len(names)]]
    if set(order) != set(names):
        return signature
    by_name = {spec.name: spec for spec in signature.inputs}
    return Signature(tuple(by_name[name] for name in order), signature.outputs)
