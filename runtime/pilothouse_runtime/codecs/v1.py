"""Requests and answers of version 1 of the prediction protocol: TensorFlow Serving's, and KServe's V1, `:predict`.

A request is in rows, {"instances": [row, ...]}, or in columns, {"inputs": {name: value}}, and so is its answer:
{"predictions": [row, ...]} or {"outputs": {name: value}}. Values are nested lists. Of a model with one input, a row or
the columns may be its value without a name; of one with one output, they are.

Source: TensorFlow Serving, "RESTful API", "Predict API".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
import orjson

from pilothouse_runtime.codecs.documents import read_document
from pilothouse_runtime.codecs.elements import Buffer, from_json, to_json
from pilothouse_runtime.codecs.parameters import timeout_of
from pilothouse_runtime.core.errors import RequestError, invalid
from pilothouse_runtime.core.requests import InferRequest, InferResponse
from pilothouse_runtime.core.tensors import Array, Datatype, Signature, Tensor

_DEFAULT_SIGNATURE: Final = "serving_default"
_BASE64: Final = "b64"


def decode_predict(body: Buffer, signature: Signature | None) -> tuple[InferRequest, int | None]:
    """Return the request in a body, and how many rows it has, or None where it is in columns.

    Shapes are those of the values; whether they fit the model is checked where all requests are.

    Raises:
        RequestError: says which field breaks which rule; or the model has no signature to read the body by.
    """
    if signature is None:
        raise invalid(
            "the model has no signature, by which version 1 of the protocol knows names and datatypes;"
            " use version 2: POST /v2/models/NAME/infer"
        )
    document = read_document("request", body)
    if document.get("signature_name") not in (None, "", _DEFAULT_SIGNATURE):
        raise invalid(f"signature_name: the model has one signature, {_DEFAULT_SIGNATURE!r}")
    if ("instances" in document) is ("inputs" in document):
        raise invalid("the request must have one of instances (rows) and inputs (columns)")
    rows = None
    if "instances" in document:
        rows, tensors = _from_rows(document["instances"], signature)
    else:
        tensors = _from_columns(document["inputs"], signature)
    parameters = document.get("parameters")
    timeout = timeout_of(parameters) if isinstance(parameters, dict) else None
    return InferRequest(tuple(tensors), timeout=timeout), rows


def encode_predict(response: InferResponse, rows: int | None) -> bytes:
    """Return the body of the answer to a request with so many rows, or in columns where that is None.

    NaN and infinity become null, as in version 2.

    Raises:
        RequestError: an output has another number of rows.
    """
    values = {output.tensor.name: _nested(output.tensor) for output in response.outputs}
    if rows is None:
        columns = next(iter(values.values())) if len(values) == 1 else values
        return orjson.dumps({"outputs": columns}, option=orjson.OPT_SERIALIZE_NUMPY)
    for output in response.outputs:
        shape = output.tensor.array.shape
        if shape[:1] != (rows,):
            raise invalid(
                f"output {output.tensor.name!r}: has shape {list(shape)}, which is no row for each of {rows}"
                " instances; send the request in columns (inputs)"
            )
    if len(values) == 1:
        predictions: Any = next(iter(values.values()))
    else:
        predictions = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def _from_rows(instances: Any, signature: Signature) -> tuple[int, Iterable[Tensor]]:
    if not isinstance(instances, list) or not instances:
        raise invalid("instances: must be a list of at least one row")
    if (only := _only(instances[0], signature)) is not None:
        return len(instances), [_tensor("instances", only, instances, signature)]
    names = [spec.name for spec in signature.inputs]
    known = set(names)
    for index, row in enumerate(instances):
        if not isinstance(row, dict) or row.keys() != known:
            told = f"{', '.join(row)}" if isinstance(row, dict) else f"a {_kind(row)}"
            raise invalid(f"instances[{index}]: must be an object with {', '.join(names)}; got {told}")
    return len(instances), [
        _tensor(f"instances[].{name}", name, [row[name] for row in instances], signature) for name in names
    ]


def _from_columns(inputs: Any, signature: Signature) -> Iterable[Tensor]:
    if (only := _only(inputs, signature)) is not None:
        return [_tensor("inputs", only, inputs, signature)]
    names = [spec.name for spec in signature.inputs]
    if not isinstance(inputs, dict) or inputs.keys() != set(names):
        told = f"{', '.join(inputs)}" if isinstance(inputs, dict) else f"a {_kind(inputs)}"
        raise invalid(f"inputs: must be an object with {', '.join(names)}; got {told}")
    return [_tensor(f"inputs.{name}", name, inputs[name], signature) for name in names]


def _only(value: Any, signature: Signature) -> str | None:
    """Return the name of the model's only input where this is its value; None where it is an object of inputs."""
    if len(signature.inputs) != 1:
        return None
    name = signature.inputs[0].name
    is_value = not isinstance(value, dict) or (value.keys() == {_BASE64} and name != _BASE64)
    return name if is_value else None


def _tensor(field: str, name: str, value: Any, signature: Signature) -> Tensor:
    datatype = next(spec.datatype for spec in signature.inputs if spec.name == name)
    shape, flat = _flattened(field, value)
    try:
        if datatype is Datatype.BYTES:
            return Tensor(name, datatype, _bytes(field, flat).reshape(shape))
        return Tensor(name, datatype, from_json(field, datatype, (len(flat),), flat).reshape(shape))
    except RequestError as error:  # version 2 has the values in a field of their own
        raise invalid(error.message.replace(f"{field}.data:", f"{field}:", 1)) from None
    except ValueError as error:  # numpy has fewer dimensions than JSON
        raise invalid(f"{field}: {error}") from None


def _flattened(field: str, value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of nested lists, and their elements; level by level, which leaves the work to C."""
    if not isinstance(value, list):
        return (), [value]
    shape = [len(value)]
    while value and type(value[0]) is list:
        if set(map(type, value)) != {list} or len(lengths := set(map(len, value))) != 1:
            raise invalid(f"{field}: its nested lists differ in length")
        shape.append(lengths.pop())
        value = list(chain.from_iterable(value))
    return tuple(shape), value


def _bytes(field: str, values: list[Any]) -> Array:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = [_element(field, value) for value in values]
    return array


def _element(field: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Mapping) and value.keys() == {_BASE64} and isinstance(value[_BASE64], str):
        try:
            return base64.b64decode(value[_BASE64], validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(f"{field}: is no base64: {error}") from None
    raise invalid(f'{field}: BYTES takes texts, and {{"{_BASE64}": "..."}} for other bytes')


def _nested(tensor: Tensor) -> Any:
    """Return what orjson writes as lists nested like a tensor's shape."""
    array = tensor.array
    if tensor.datatype is Datatype.BYTES:
        texts = np.empty(array.size, dtype=np.object_)
        texts[:] = [_text(value) for value in array.reshape(-1)]
        return texts.reshape(array.shape).tolist()
    values = np.asarray(to_json(f"output {tensor.name!r}", array)).reshape(array.shape)
    return values if values.ndim else values[()]


def _text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {_BASE64: base64.b64encode(value).decode()}


def _kind(value: Any) -> str:
    """Return what JSON calls the type of a value."""
    if value is None:
        return "null"
    names = {list: "list", str: "text", bool: "truth value"}
    return names.get(type(value), "number")
