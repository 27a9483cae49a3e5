"""Requests for explanations and their answers, in version 1 (`:explain`, as KServe has it) and as version 2 would.

A request is one for a prediction with further parameters, and an answer is one with the attributions in place of the
outputs and what they explain beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from pilothouse_runtime.codecs import oip, v1
from pilothouse_runtime.codecs.elements import Buffer
from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.explaining import DEFAULT_STEPS, MOST_STEPS, Explanation, Method, Options
from pilothouse_runtime.core.requests import InferRequest, InferResponse
from pilothouse_runtime.core.tensors import Signature

# Parameters of one method only.
_OF: Final = {
    "steps": Method.INTEGRATED_GRADIENTS,
    "window": Method.OCCLUSION,
    "strides": Method.OCCLUSION,
}
_OTHERS: Final = ("method", "output", "target", "baseline", "timeout", "binary_data_output")


def decode_v2(body: Buffer, header_length: str | None) -> tuple[InferRequest, Options]:
    """Return the request in a body, arguments as for `oip.decode_request`. Raises RequestError."""
    request = oip.decode_request(body, header_length)
    # Read once more for the parameters that predictions do not have: nobody asks for explanations in a hurry.
    document = orjson.loads(memoryview(body)[: int(header_length)] if header_length is not None else body)
    return request, _options(document.get("parameters", {}))


def decode_v1(body: Buffer, signature: Signature | None) -> tuple[InferRequest, int | None, Options]:
    """Return the request in a body, and its rows as `v1.decode_predict` has them. Raises RequestError."""
    request, rows = v1.decode_predict(body, signature)
    parameters = orjson.loads(body).get("parameters", {})
    if not isinstance(parameters, dict):
        raise invalid("parameters: must be an object")
    return request, rows, _options(parameters)


def encode_v2(response: InferResponse, explanation: Explanation) -> tuple[list[Buffer], int | None]:
    """Return the body's pieces and the length of the JSON part, as `oip.encode_response` does. Raises RequestError."""
    (head, *chunks), length = oip.encode_response(response)
    told = b',"parameters":' + orjson.dumps(_told(explanation)) + b"}"
    head = bytes(head)[:-1] + told  # before the brace that ends the document
    return [head, *chunks], None if length is None else len(head)


def encode_v1(response: InferResponse, rows: int | None, explanation: Explanation) -> bytes:
    """Return the body of the answer: {"explanations": ...}, in rows or columns as the request. Raises RequestError."""
    _, _, value = v1.encode_predict(response, rows).partition(b":")
    return orjson.dumps({"explanations": orjson.Fragment(value[:-1]), **_told(explanation)})


def _told(explanation: Explanation) -> dict[str, Any]:
    told: dict[str, Any] = {"method": explanation.method, "output": explanation.output}
    if explanation.target:
        told["target"] = list(explanation.target)
    if explanation.delta is not None:
        told["convergence_delta"] = list(explanation.delta)
    return told


def _options(parameters: Mapping[str, Any]) -> Options:
    method = parameters.get("method", str(Method.INTEGRATED_GRADIENTS))
    if method not in list(Method):
        raise invalid(f"parameters.method: {method!r} is none of {', '.join(Method)}")
    for name in parameters:
        if name in _OF and _OF[name] != method:
            raise invalid(f"parameters.{name}: belongs to {_OF[name]}, and the method is {method}")
        if name not in _OF and name not in _OTHERS:
            raise invalid(f"parameters.{name}: is unknown; there are {', '.join((*_OTHERS, *_OF))}")
    output = parameters.get("output")
    if output is not None and not isinstance(output, str):
        raise invalid("parameters.output: must be the name of an output")
    steps = parameters.get("steps", DEFAULT_STEPS)
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise invalid(f"parameters.steps: must be a whole number from 1 to {MOST_STEPS}")
    return Options(
        Method(method),
        output,
        _target(parameters.get("target")),
        parameters.get("baseline", 0),
        steps,
        parameters.get("window"),
        parameters.get("strides", 1),
    )


def _target(value: Any) -> int | tuple[int, ...] | None:
    if value is None or type(value) is int:
        return value
    if isinstance(value, list) and all(type(index) is int for index in value):
        return tuple(value)
    raise invalid("parameters.target: must be a class, or a list of them")
