"""The TorchScript backend: archives written by torch.jit.save."""

from __future__ import annotations

import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.signature import SignatureError, parse_signature, reconcile
from pilothouse_runtime.core.tensors import Signature, Tensor
from pilothouse_runtime.engine.backends.exported_check import FILE_OPERATORS
from pilothouse_runtime.engine.failures import first_cause, unloadable
from pilothouse_runtime.engine.likeness import copies, difference
from pilothouse_runtime.engine.model import PLAIN, Options
from pilothouse_runtime.engine.torch_model import TorchModel

log = logging.getLogger(__name__)

_RUNS_UNTIL_COMPILED: Final = 3
SIGNATURE_FILE: Final = "signature.json"  # given to torch.jit.save as an extra file

# torch.jit.load runs no Python: pickles are read by torch's own reader, which makes tensors and TorchScript's
# types only. What is left are operators that read and write files by name.
_FILE_OPERATORS: Final = re.compile(rb"\b(?:torch|ops\.aten)\.(%s)\(" % "|".join(FILE_OPERATORS).encode())


class TorchScriptModel(TorchModel):
    """A scripted or traced module; inputs go by position to its forward.

    Measured with torch 2.13 on a CPU: after the two runs in which the executor profiles and compiles, a run with a
    batch size that is new takes no longer than others, since without a fuser code is not specialised to shapes.
    """

    format = Format.TORCHSCRIPT
    platform = "pytorch_torchscript"

    def __init__(
        self, module: torch.jit.ScriptModule, signature: Signature | None, device: torch.device
    ) -> None:
        super().__init__(signature, device, (*module.parameters(), *module.buffers()))
        self._forward: Callable[..., Any] = module
        self._module: torch.jit.ScriptModule | None = module

    @property
    def is_frozen(self) -> bool:
        """Whether another form of the module runs than the file has."""
        return not isinstance(self._forward, torch.jit.ScriptModule)

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run forward."""
        return self._forward(*inputs)

    def settle(self, inputs: Sequence[Tensor]) -> None:
        """Run a frozen copy from now on, if its answers are the same: its weights are constants.

        Freezing folds batch norms into convolutions, which makes ResNets a fifth faster. `optimize_for_inference`
        is not used: it made small convolutions several times slower.
        """
        module, self._module = self._module, None
        if module is None:
            return
        try:
            # A model that has a memory, or throws dice, cannot be compared, and is left as it is.
            want = copies(self.run(copies(inputs)))
            if difference(self.run(copies(inputs)), want):
                return
            self._forward = _frozen(module)
            for _ in range(_RUNS_UNTIL_COMPILED):
                flaw = difference(self.run(copies(inputs)), want)
                if flaw:
                    break
        except Exception as error:  # whatever freezing breaks, the model itself has run
            flaw = first_cause(error)
        if flaw:
            log.info("the model is run as it is: frozen, it would fail or answer otherwise: %s", flaw)
            self._forward = module


def _frozen(module: torch.jit.ScriptModule) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward: Callable[..., Any] = torch.jit.freeze(module).forward
    return forward


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> TorchScriptModel:
    """Load an archive that `formats.detect` found to be TorchScript.

    Args:
        declared: the user's signature, if any; the archive's own is in its extra file signature.json.
    Raises:
        LoadError: ModelLoadFailed.
    """
    _refuse_file_operators(path)
    if (
        device.type == "cuda"
    ):  # where there is a fuser: it would compile anew for each of the first batch sizes
        torch.jit.set_fusion_strategy([("DYNAMIC", 4)])
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
