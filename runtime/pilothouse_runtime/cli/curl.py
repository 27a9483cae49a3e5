"""A curl line that asks a model something it answers: tried out before it is shown."""

from __future__ import annotations

import http.client
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

_SIZES: Final = (1, 16, 64, 224)  # of free dimensions other than rows, as the runtime's warm-up tries them
_SHORT: Final = 2000  # characters of JSON that a line may hold
_TIMEOUT: Final = 60.0  # seconds
_FLOATS: Final = ("FP16", "BF16", "FP32", "FP64")


class NotAnsweredError(Exception):
    """The model takes no made-up request; the message says what it told of the last."""


def get(port: int, path: str) -> tuple[int, Any]:
    """Return status and JSON of what a server on this machine says at a path. Raises OSError, ValueError."""
    return _ask(port, "GET", path, None)


def working_line(port: int, model: str, example: Mapping[str, Any]) -> str:
    """Return a line for a shell that the model at this port answers.

    Args:
        example: nested lists by name of input: one row that the model is known to take; or {}. One that is too long for
            a line is not shown.
    Raises:
        NotAnsweredError: nothing that was tried is answered.
        OSError, ValueError, http.client.HTTPException: the server does not speak the protocol.
    """
    base = f"/v2/models/{quote(model, safe='')}"
    _, metadata = get(port, base)
    inputs = metadata.get("inputs", [])
    if not inputs:
        raise NotAnsweredError("its inputs are not known: neither its file nor a manifest describes them")
    told = ""
    for tensors in _candidates(inputs, example):
        status, answer = _ask(port, "POST", f"{base}/infer", _body(tensors))
        if status == 200:
            return _line(f"http://localhost:{port}{base}/infer", tensors)
        told = answer.get("error", str(status))
    raise NotAnsweredError(f"made-up requests are not answered: {told}")


def _candidates(
    inputs: Sequence[Mapping[str, Any]], example: Mapping[str, Any]
) -> Iterator[list[dict[str, Any]]]:
    if example.keys() == {spec["name"] for spec in inputs}:
        known = [
            _tensor(spec, _shape_of(example[spec["name"]]), _flat(example[spec["name"]])) for spec in inputs
        ]
        if len(_body(known)) <= _SHORT:
            yield known
    for size in _SIZES:
        made_up = []
        for spec in inputs:
            shape = [
                wanted if wanted >= 0 else 1 if axis == 0 else size
                for axis, wanted in enumerate(spec["shape"])
            ]
            made_up.append(_tensor(spec, shape, [_nothing(spec["datatype"])] * math.prod(shape)))
        yield made_up


def _tensor(spec: Mapping[str, Any], shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data}


def _nothing(datatype: str) -> Any:
    if datatype == "BYTES":
        return "text"
    if datatype == "BOOL":
        return False
    return 0.0 if datatype in _FLOATS else 0


def _shape_of(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, list) else [value]


def _body(tensors: list[dict[str, Any]]) -> str:
    return json.dumps({"inputs": tensors})


def _line(url: str, tensors: list[dict[str, Any]]) -> str:
    body = _body(tensors)
    if len(body) <= _SHORT:
        return f"curl -s {url} -d {shlex.quote(body)}"
    # Too long for a line that people read, and for an argument of a program: made-up, so Python writes the zeros.
    written = ", ".join(
        f'{{"name": {json.dumps(tensor["name"])}, "datatype": "{tensor["datatype"]}", "shape": {tensor["shape"]},'
        f' "data": [{tensor["data"][0]!r}] * {len(tensor["data"])}}}'
        for tensor in tensors
    )
    program = f'import json; print(json.dumps({{"inputs": [{written}]}}))'
    return f"python3 -c {shlex.quote(program)} | curl -s {url} -d @-"


def _ask(port: int, method: str, path: str, body: str | None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("localhost", port, timeout=_TIMEOUT)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
