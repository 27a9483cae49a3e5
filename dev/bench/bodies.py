"""The bodies that are sent, in the ways that servers read them, and the numbers in what they answer."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

Array = NDArray[Any]

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
INPUT: Final = "x"
_DATATYPES: Final = {"float32": "FP32", "int64": "INT64"}


class Form(StrEnum):
    """How a tensor is written into a body."""

    OIP_JSON = "JSON"  # a request of the Open Inference Protocol
    OIP_BINARY = "OIP binary"  # the same with the binary tensor extension, for the answer too
    ROWS_JSON = "JSON, plain"  # {"x": [[...]]}, for servers that name arguments themselves
    RAW = "raw bytes"  # the tensor's bytes and nothing else, both ways
    OIP_BASE64 = (
        "base64 in JSON"  # as BYTES in a request of the Open Inference Protocol; the answer is plain JSON
    )


@dataclass(frozen=True)
class Body:
    """What one request carries."""

    content: bytes
    headers: Mapping[str, str]


def write(tensor: Array, form: Form) -> Body:
    """Return the body that carries a tensor."""
    if form is Form.RAW:
        return Body(tensor.tobytes(), {"Content-Type": "application/octet-stream"})
    if form is Form.ROWS_JSON:
        content = orjson.dumps({INPUT: tensor}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Body(content, {"Content-Type": "application/json"})
    one: dict[str, Any] = {"name": INPUT, "shape": list(tensor.shape), "datatype": _datatype(tensor)}
    if form is Form.OIP_JSON:
        content = orjson.dumps(
            {"inputs": [one | {"data": np.ravel(tensor)}]}, option=orjson.OPT_SERIALIZE_NUMPY
        )
        return Body(content, {"Content-Type": "application/json"})
    if form is Form.OIP_BASE64:
        text = b64encode(tensor.tobytes()).decode()
        one |= {
            "datatype": "BYTES",
            "shape": [1, 1],
            "data": [text],
            "parameters": {"content_type": "base64"},
        }
        return Body(orjson.dumps({"inputs": [one]}), {"Content-Type": "application/json"})
    one["parameters"] = {"binary_data_size": tensor.nbytes}
    head = orjson.dumps({"inputs": [one], "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return Body(head + tensor.tobytes(), headers)


def read(content: bytes, headers: Mapping[str, str], form: Form) -> Array:
    """Return the numbers of an answer, flat.

    Raises:
        ValueError: there are none.
    """
    if form is Form.RAW:
        return np.frombuffer(content, np.float32)
    if form is Form.OIP_BINARY and (length := _header(headers, HEADER_LENGTH)):
        return np.frombuffer(content, np.float32, offset=int(length))
    return np.asarray(_numbers(orjson.loads(content)), np.float32).ravel()


def _numbers(answer: Any) -> Any:
    """Look for the list of numbers in a JSON answer: OIP's, or the only value of an object."""
    if isinstance(answer, dict) and answer.get("outputs"):
        return answer["outputs"][0]["data"]
    if isinstance(answer, dict) and len(answer) == 1:
        return _numbers(next(iter(answer.values())))
    if not isinstance(answer, list):
        raise ValueError(f"no tensor in the answer: {str(answer)[:200]}")  # noqa: TRY004 - of an answer, not of ours
    return answer


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name.lower()), "")


def _datatype(tensor: Array) -> str:
    return _DATATYPES[tensor.dtype.name]
