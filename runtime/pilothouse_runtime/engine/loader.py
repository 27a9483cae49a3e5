"""From a uri to a model that is ready: get, check, load, warm up. Runs in a thread of its own."""

from __future__ import annotations

import gc
import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pilothouse_runtime.contract import ENV_EXPLAIN
from pilothouse_runtime.core.predictor import ModelDescription
from pilothouse_runtime.core.settings import Device, Optimize, Settings, bad_setting
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.engine.failures import no_gpu, not_optimizable
from pilothouse_runtime.engine.limits import usable_cpus
from pilothouse_runtime.engine.model import LoadedModel, Options
from pilothouse_runtime.engine.optimizing import FORMATS
from pilothouse_runtime.engine.packed import choose
from pilothouse_runtime.engine.profile import load_profile
from pilothouse_runtime.engine.registry import Backend
from pilothouse_runtime.engine.selection import select
from pilothouse_runtime.engine.source import Source, fetch
from pilothouse_runtime.engine.warmup import Warm

if TYPE_CHECKING:
    import torch

    from pilothouse_runtime.core.profiles import Profile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model that is ready, and what is known of it."""

    model: LoadedModel
    description: ModelDescription
    warm: Warm
    together: bool  # it may run more than once at a time
    profile: Profile | None = None  # that requests are compared with


def load(settings: Settings, source: Source, readiness: Readiness) -> Loaded:
    """Return the model that the settings name, telling `readiness` how far it is.

    torch, or what else runs the model, is imported here and not before, so that the server answers probes while that
    takes its seconds.

    Raises:
        LoadError: the model cannot be served.
    """

    def tell(phase: Phase, message: str) -> None:
        readiness.enter(phase, message)
        log.info("%s: %s", phase, message)

    file = fetch(settings.uri, settings.digest, source, lambda message: tell(Phase.PULLING, message))
    readiness.began_earlier(file.seconds)
    tell(Phase.VERIFIED, f"sha256:{settings.digest}" if settings.digest else "no digest given")
    chosen = choose(file.path, settings.format, settings.signature, verified=bool(settings.digest))
    options = Options(
        settings.factory,
        optimize=settings.optimize,
        gradients=settings.explain,
        scratch=source.cache_dir,
        declared_by=chosen.declared_by,
    )
    selected = select(chosen.path, chosen.format, chosen.signature, options, file.content_type)
    backend, name = selected.backend, selected.path.name
    backend.require(name)
    _check_explainable(settings, backend)
    tell(Phase.LOADING, f"starting {backend.library}")
    _share_cpus()
    device = _start_torch(settings.device) if backend.on_torch else settings.device
    tell(Phase.LOADING, f"loading {name} ({backend.format})")
    model = selected.load(device)
    log.info("%s runs on %s", name, model.device)
    _check_optimizable(model, settings.optimize)
    compiling = "compiling the model, and " if settings.optimize is Optimize.COMPILE else ""
    tell(Phase.WARMING, f"{compiling}running the model for the first time")
    warm = selected.warm_up(model, settings.batch_max_size)
    description = ModelDescription(
        model.format, model.platform, model.signature, warm.max_batch, model.weight_bytes
    )
    if settings.explain and not model.reentrant:
        rule = "must be left out: a model of this format may not be run by two threads, and explanations have their own"
        raise bad_setting(ENV_EXPLAIN, rule)
    profile = load_profile(settings, source, model.signature, lambda message: tell(Phase.WARMING, message))
    # What was found to answer row by row keeps nothing from one run for the next. A GPU is one, whoever asks.
    together = warm.max_batch > 1 and model.device == "cpu" and model.reentrant
    return Loaded(model, description, warm, together, profile)


def _check_explainable(settings: Settings, backend: Backend) -> None:
    """Explanations are Captum's, on torch, whatever runs the model."""
    if settings.explain and find_spec("captum") is None:
        rule = f"must be left out for a model of format {backend.format} here: this image holds no Captum; that of the"
        raise bad_setting(ENV_EXPLAIN, f"{rule} other formats (.../runtime) does")


def _check_optimizable(model: LoadedModel, wanted: Optimize) -> None:
    if wanted is Optimize.NONE:
        return
    if model.format not in FORMATS[wanted] or model.device != "cpu":
        able = ", ".join(sorted(FORMATS[wanted]))
        raise not_optimizable(
            wanted,
            f"a model of format {model.format} on {model.device} cannot be changed so; on cpu, those of {able} can",
        )
    if model.signature is None:
        raise not_optimizable(
            wanted, "nothing says what inputs it takes, so that it cannot be checked: give model.inputs"
        )


def _share_cpus() -> None:
    """Tell libraries, before they are imported, how many threads to make."""
    # Read when torch's thread pools are made; whoever set it by hand knows better.
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cpus()))
    # By default threads that wait for each other spin. Where the CPUs are not ours alone, as on any node that others
    # use too, one spins while the other waits for its turn: measured, a transformer was twenty times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _start_torch(wanted: Device) -> torch.device:
    # Nothing of the hundred thousand objects that torch brings is ever garbage. Looking for some takes a fifth of the
    # time of its import, and a tenth of a second whenever it is done again later.
    gc.disable()
    import torch

    gc.freeze()
    gc.enable()
    has_gpu = torch.cuda.is_available()
    if wanted is Device.CUDA and not has_gpu:
        raise no_gpu()
    log.info("PyTorch %s with %d threads", torch.__version__, torch.get_num_threads())
    return torch.device("cuda" if has_gpu and wanted is not Device.CPU else "cpu")
