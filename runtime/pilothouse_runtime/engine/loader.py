"""From a uri to a model that is ready: get, check, load, warm up. Runs in a thread of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilothouse_runtime.contract import ENV_DEVICE
from pilothouse_runtime.core.predictor import ModelDescription
from pilothouse_runtime.core.settings import Device, Format, Settings, bad_setting
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.engine.formats import detect
from pilothouse_runtime.engine.limits import usable_cpus
from pilothouse_runtime.engine.source import Source, fetch

if TYPE_CHECKING:
    import torch

    from pilothouse_runtime.core.tensors import Signature
    from pilothouse_runtime.engine.model import LoadedModel
    from pilothouse_runtime.engine.warmup import Warm

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model that is ready, and what is known of it."""

    model: LoadedModel
    description: ModelDescription
    warm: Warm
    together: bool  # it may run more than once at a time


def load(settings: Settings, source: Source, readiness: Readiness) -> Loaded:
    """Return the model that the settings name, telling `readiness` how far it is.

    torch is imported here and not before, so that the server answers probes while that takes its seconds.

    Raises:
        LoadError: the model cannot be served.
    """

    def tell(phase: Phase, message: str) -> None:
        readiness.enter(phase, message)
        log.info("%s: %s", phase, message)

    file = fetch(settings.uri, settings.digest, source, lambda message: tell(Phase.PULLING, message))
    tell(Phase.VERIFIED, f"sha256:{settings.digest}" if settings.digest else "no digest given")
    found = detect(file.path, settings.format, file.content_type)
    tell(Phase.LOADING, "starting PyTorch")
    device = _start_torch(settings.device)
    tell(Phase.LOADING, f"loading {file.path.name} ({found}) on {device}")
    from pilothouse_runtime.engine.warmup import warm_up

    model = _backend(found)(file.path, device, settings.signature)
    tell(Phase.WARMING, "running the model for the first time")
    warm = warm_up(model, settings.batch_max_size)
    description = ModelDescription(
        model.format, model.platform, model.signature, warm.max_batch, model.weight_bytes
    )
    # What was found to answer row by row keeps nothing from one run for the next. A GPU is one, whoever asks.
    return Loaded(model, description, warm, together=warm.max_batch > 1 and device.type == "cpu")


def _backend(found: Format) -> Callable[[Path, torch.device, Signature | None], LoadedModel]:
    if found is Format.TORCHSCRIPT:
        from pilothouse_runtime.engine import torchscript

        return torchscript.load
    from pilothouse_runtime.engine import exported  # takes seconds to import

    return exported.load


def _start_torch(wanted: Device) -> torch.device:
    cpus = usable_cpus()
    # Read when torch's thread pools are made; whoever set it by hand knows better.
    os.environ.setdefault("OMP_NUM_THREADS", str(cpus))
    # By default threads that wait for each other spin. Where the CPUs are not ours alone, as on any node that others
    # use too, one spins while the other waits for its turn: measured, a transformer was twenty times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    has_gpu = torch.cuda.is_available()
    if wanted is Device.CUDA and not has_gpu:
        raise bad_setting(
            ENV_DEVICE, "is cuda, but this container sees no GPU; ask for one in runtime.resources"
        )
    log.info("PyTorch %s with %d threads", torch.__version__, torch.get_num_threads())
    return torch.device("cuda" if has_gpu and wanted is not Device.CPU else "cpu")
