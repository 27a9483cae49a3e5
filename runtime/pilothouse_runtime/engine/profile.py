"""Gets the golden data set that drift is measured against, and makes its profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pilothouse_runtime.contract import ENV_DRIFT_PROFILE, FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.profiles import Profile, ProfileError, make_profile
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.engine.golden import read_golden
from pilothouse_runtime.engine.source import Source, fetch

_FIELD = "runtime.drift"


def load_profile(
    settings: Settings, source: Source, signature: Signature | None, tell: Callable[[str], None]
) -> Profile | None:
    """Return the profile that the settings ask for; None where they ask for none.

    Raises:
        LoadError: as of a model, where the data set cannot be had; InvalidConfiguration where it makes no profile.
    """
    if not settings.drift_profile:
        return None
    place = replace(
        source,
        cache_dir=source.cache_dir / "drift",  # a download without a digest would take the model's name
        fetched_dir=source.drift_dir,
        pvc_mount=source.drift_dir,
        uri_variable=ENV_DRIFT_PROFILE,
        spec_field=_FIELD,
    )
    try:
        file = fetch(settings.drift_profile, settings.drift_digest, place, tell)
    except LoadError as error:
        raise LoadError(error.reason, f"{_FIELD}: {error.message}", permanent=error.permanent) from error
    try:
        golden = read_golden(file, needs_outputs=False)
        return make_profile(golden.inputs, golden.outputs, signature)
    except LoadError as error:
        raise _unusable(error.message, permanent=error.permanent) from error
    except ProfileError as error:
        raise _unusable(f"the data set {error}", permanent=True) from error


def _unusable(told: str, *, permanent: bool) -> LoadError:
    return LoadError(FailureReason.INVALID_CONFIGURATION, f"{_FIELD}: {told}", permanent=permanent)
