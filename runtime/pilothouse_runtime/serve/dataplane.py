"""What the server can be asked, free of HTTP: every protocol front calls this and nothing else."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pilothouse_runtime.codecs.oip import EXTENSIONS
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.predictor import Predictor
from pilothouse_runtime.core.requests import (
    InferRequest,
    InferResponse,
    arrange_inputs,
    check_outputs,
    choose_outputs,
)
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.core.tensors import TensorSpec

SERVER_NAME: Final = "pilothouse-runtime"
_RETRY_LOADING: Final = 5  # seconds


class DataPlane:
    """Answers for one model, which is attached once it is loaded."""

    def __init__(self, settings: Settings, readiness: Readiness) -> None:
        self._settings = settings
        self._readiness = readiness
        self._predictor: Predictor | None = None

    def attach(self, predictor: Predictor) -> None:
        """Take requests for this model from now on."""
        self._predictor = predictor
        self._readiness.enter(Phase.READY)

    def server_metadata(self) -> dict[str, Any]:
        """Return the protocol's server metadata."""
        return {"name": SERVER_NAME, "version": _version(), "extensions": list(EXTENSIONS)}

    def model_ready(self, model: str, model_version: str | None) -> bool:
        """Say whether the model wants requests. Raises RequestError for another model or version."""
        self._check(model, model_version)
        return self._readiness.state.ready

    def model_metadata(self, model: str, model_version: str | None) -> dict[str, Any]:
        """Return the protocol's model metadata; inputs and outputs are empty lists where nothing is known.

        Raises:
            RequestError: another model or version, or the model is not loaded.
        """
        self._check(model, model_version)
        description = self._loaded().description
        signature = description.signature
        return {
            "name": self._settings.model_name,
            "versions": [self._settings.version],
            "platform": description.platform,
            "inputs": [_described(spec) for spec in signature.inputs] if signature else [],
            "outputs": [_described(spec) for spec in signature.outputs] if signature else [],
        }

    def check_servable(self, model: str, model_version: str | None) -> None:
        """Check what can be known before a request's body. Raises RequestError as `infer` does."""
        self._check(model, model_version)
        self._loaded()

    async def infer(self, model: str, model_version: str | None, request: InferRequest) -> InferResponse:
        """Return the answer to a request.

        Raises:
            RequestError: another model or version, not loaded, tensors that do not fit, a full queue, or a
                model that failed.
        """
        self._check(model, model_version)
        predictor = self._loaded()
        signature = predictor.description.signature
        inputs = arrange_inputs(request.inputs, signature)
        if signature and signature.outputs:
            check_outputs(request, [spec.name for spec in signature.outputs])
        outputs = choose_outputs(request, await predictor.predict(inputs))
        return InferResponse(self._settings.model_name, self._settings.version, outputs, request.id)

    def _check(self, model: str, model_version: str | None) -> None:
        settings = self._settings
        if model != settings.model_name:
            raise RequestError(
                Code.NOT_FOUND, f"there is no model {model!r} here; this server has {settings.model_name!r}"
            )
        if model_version not in (None, settings.version):
            raise RequestError(
                Code.NOT_FOUND,
                f"model {model!r} has no version {model_version!r} here; this server has {settings.version!r}",
            )

    def _loaded(self) -> Predictor:
        if self._predictor is None:
            state = self._readiness.state
            raise RequestError(
                Code.UNAVAILABLE,
                f"the model is not loaded yet: {state.phase} {state.message}".rstrip(),
                retry_after=_RETRY_LOADING,
            )
        return self._predictor


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _version() -> str:
    try:
        return version("pilothouse")
    except PackageNotFoundError:
        return "source"  # run from a checkout
