"""What the server can be asked, free of HTTP: every protocol front calls this and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pilothouse_runtime.codecs.parameters import EXTENSIONS
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.predictor import Job, Predictor
from pilothouse_runtime.core.requests import (
    InferRequest,
    InferResponse,
    arrange_inputs,
    check_outputs,
    choose_outputs,
)
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.core.tensors import Signature, Tensor, TensorSpec
from pilothouse_runtime.serve.calls import Call, Observer
from pilothouse_runtime.serve.metrics import Metrics

SERVER_NAME: Final = "pilothouse-runtime"
_RETRY_LOADING: Final = 5  # seconds

Done = Callable[[InferResponse], None]
Failed = Callable[[RequestError], None]


class DataPlane:
    """Answers for one model, which is attached once it is loaded.

    Args:
        metrics: counts and times every call.
        observers: are told of every call that has ended.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        readiness: Readiness,
        metrics: Metrics,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._readiness = readiness
        self._metrics = metrics
        self._observers = tuple(observers)
        self._clock = clock
        self._predictor: Predictor | None = None

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self._settings.model_name

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

    def open(self, protocol: str, path: str = "", peer: str = "") -> Call:
        """Begin a call; whoever opens one closes it, whatever becomes of it."""
        self._metrics.in_flight += 1
        return Call(protocol, self._clock(), path, peer)

    def close(self, call: Call, code: int, error: str = "") -> None:
        """End a call with the HTTP status that its client was answered with, and what was wrong."""
        now = self._clock()
        call.code = code
        call.error = error
        self._metrics.in_flight -= 1
        self._metrics.ended(call, now)
        for observe in self._observers:
            observe(call, now)

    def signature(self) -> Signature | None:
        """Return the model's signature, if it has one. Raises RequestError where no model is loaded."""
        return self._loaded().description.signature

    def check_servable(self, model: str, model_version: str | None) -> None:
        """Check what can be known before a request's body.

        Raises:
            RequestError: another model or version, or the model is not loaded.
        """
        self._check(model, model_version)
        self._loaded()

    def infer(self, call: Call, request: InferRequest, done: Done, failed: Failed) -> None:
        """Queue a request; one of `done` and `failed` is called later, in this thread, unless it is cancelled.

        That it is for this model, `check_servable` has said before.

        Raises:
            RequestError: not loaded, tensors that do not fit, or a full queue.
        """
        predictor = self._loaded()
        signature = predictor.description.signature
        inputs = arrange_inputs(request.inputs, signature)
        if request.outputs and signature and signature.outputs:
            check_outputs(request, [spec.name for spec in signature.outputs])
        settings = self._settings

        def reply(result: list[Tensor] | RequestError) -> None:
            if isinstance(result, RequestError):
                failed(result)
                return
            try:
                outputs = choose_outputs(request, result)
            except RequestError as error:
                failed(error)
            else:
                done(InferResponse(settings.model_name, settings.version, outputs, request.id))

        call.decoded = self._clock()
        if request.timeout is not None:
            end = call.started + request.timeout
            call.deadline = end if call.deadline is None else min(call.deadline, end)
        call.request_id = call.request_id or request.id or ""
        call.job = job = Job(inputs, reply, call.deadline)
        predictor.submit(job)

    async def predict(self, call: Call, request: InferRequest) -> InferResponse:
        """Return the answer to a request; one whose task is cancelled leaves the queue. Raises as `infer`."""
        answer: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        # The task may be cancelled in the very turn in which the answer comes: it is done then, and not yet told.
        self.infer(
            call,
            request,
            lambda response: None if answer.done() else answer.set_result(response),
            lambda error: None if answer.done() else answer.set_exception(error),
        )
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancel(call)
            raise

    def cancel(self, call: Call) -> None:
        """Drop a call whose client has left; it is still to be closed."""
        if call.job is not None and self._predictor is not None:
            call.job.cancelled = True
            self._predictor.cancel(call.job)

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
