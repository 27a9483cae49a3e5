"""Inference requests and answers of the Open Inference Protocol v2 over HTTP.

A body is JSON, or JSON followed by the raw data of the tensors that say so ("Binary Tensor Data
Extension"); a header gives the length of the JSON part then.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from pilothouse_runtime.codecs.documents import read_document
from pilothouse_runtime.codecs.elements import Buffer, from_binary, from_json, to_binary, to_json
from pilothouse_runtime.codecs.parameters import check_parameters, flag, timeout_of
from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.requests import InferRequest, InferResponse, OutputTensor, RequestedOutput
from pilothouse_runtime.core.tensors import Datatype, Tensor

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_DATATYPES: Final = {str(datatype): datatype for datatype in Datatype}


def decode_request(body: Buffer, header_length: str | None) -> InferRequest:
    """Return the request in a body.

    Args:
        body: of a bytearray, binary tensors become writable views without a copy.
        header_length: the value of the HEADER_LENGTH header, or None where there is none.
    Raises:
        RequestError: says which field breaks which rule.
    """
    document, reader = _opened("request", body, header_length)
    if "inputs" not in document:
        v1 = ". Instances are for version 1: POST /v1/models/NAME:predict" if "instances" in document else ""
        raise invalid(
            f"inputs: must be there, a list of tensors, each with name, datatype, shape and data{v1}"
        )
    request_id = _text(document, "id") if "id" in document else None
    binary_outputs, timeout = False, None
    if "parameters" in document:
        parameters = _parameters("", document)
        binary_outputs = flag("parameters", parameters, "binary_data_output")
        timeout = timeout_of(parameters)
    inputs = tuple(
        [_tensor(f"inputs[{index}]", item, reader)[0] for index, item in enumerate(_list(document, "inputs"))]
    )
    if reader is not None:
        reader.end("input")
    outputs: tuple[RequestedOutput, ...] = ()
    if "outputs" in document:
        outputs = tuple(
            _requested(f"outputs[{index}]", item, binary_outputs)
            for index, item in enumerate(_list(document, "outputs"))
        )
    return InferRequest(inputs, outputs, request_id, binary_outputs, timeout)


def encode_request(request: InferRequest) -> tuple[bytes, int]:
    """Return the body of a request, all of its inputs as binary data, and the length of its JSON part."""
    chunks: list[Buffer] = []
    document: dict[str, Any] = {
        "inputs": [_output(OutputTensor(tensor, True), chunks) for tensor in request.inputs]
    }
    if request.id is not None:
        document["id"] = request.id
    if request.outputs:
        document["outputs"] = [
            {"name": output.name, "parameters": {"binary_data": output.binary}} for output in request.outputs
        ]
    document["parameters"] = {"binary_data_output": request.binary_outputs}
    head = orjson.dumps(document)
    return b"".join([head, *chunks]), len(head)


def decode_response(body: Buffer, header_length: str | None) -> InferResponse:
    """Return the answer in a body; arguments as for `decode_request`.

    Raises:
        RequestError: the answer is not as the protocol has it; says which field breaks which rule.
    """
    document, reader = _opened("answer", body, header_length)
    outputs = tuple(
        OutputTensor(*_tensor(f"outputs[{index}]", item, reader))
        for index, item in enumerate(_list(document, "outputs"))
    )
    if reader is not None:
        reader.end("output")
    name, version = _text(document, "model_name"), _text(document, "model_version")
    return InferResponse(name or "", version or "", outputs, _text(document, "id"))


def encode_response(response: InferResponse) -> tuple[list[Buffer], int | None]:
    """Return the body's pieces, and the length of its JSON part where binary data follows it, else None.

    Binary outputs are views of their tensors, without a copy.

    Raises:
        RequestError: an output cannot be sent in the way asked for.
    """
    chunks: list[Buffer] = []
    document: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
    }
    if response.id is not None:
        document["id"] = response.id
    document["outputs"] = [_output(output, chunks) for output in response.outputs]
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return [head, *chunks], len(head) if chunks else None


class _Binary:
    """Hands out the binary part of a body, tensor by tensor."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, field: str, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            raise invalid(
                f"{field}: {size} bytes are announced, {len(self._data) - self._at} are left in the body"
            )
        start, self._at = self._at, self._at + size
        return self._data[start : self._at]

    def end(self, kind: str) -> None:
        if self._at != len(self._data):
            raise invalid(f"the body has {len(self._data) - self._at} bytes that belong to no {kind}")


def _opened(what: str, body: Buffer, header_length: str | None) -> tuple[dict[str, Any], _Binary | None]:
    """Return the JSON part of a body, and what hands out the rest if there is any; `what` is for messages."""
    reader = None
    if header_length is not None:
        view = memoryview(body)
        json_length = _json_length(header_length, len(view))
        body, reader = view[:json_length], _Binary(view[json_length:])
    return read_document(what, body), reader


def _json_length(header: str, body_length: int) -> int:
    if not (header.isascii() and header.isdigit() and len(header) < 20) or int(header) > body_length:
        raise invalid(f"{HEADER_LENGTH}: must be a number of bytes, at most the body's {body_length}")
    return int(header)


def _tensor(where: str, item: Any, binary: _Binary | None) -> tuple[Tensor, bool]:
    """Return a tensor, and whether its data was binary."""
    name = _name(where, item)
    datatype, shape = item.get("datatype"), item.get("shape")
    kind = _DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if kind is None:
        raise invalid(f"{where}.datatype: {datatype!r} is none of {', '.join(Datatype)}")
    if not isinstance(shape, list):
        raise invalid(f"{where}.shape: must be a list of sizes, whole numbers from 0 on")
    for size in shape:
        if type(size) is not int or not 0 <= size < 1 << 63:
            raise invalid(f"{where}.shape: must be a list of sizes, whole numbers from 0 on")
    dims = tuple(shape)
    parameters = _parameters(where, item) if "parameters" in item else {}
    is_binary = "binary_data_size" in parameters
    if is_binary and "data" in item:
        raise invalid(f"{where}: has both data and binary_data_size; send one of them")
    try:
        if is_binary:
            data = _raw(f"{where}.parameters.binary_data_size", parameters["binary_data_size"], binary)
            array = from_binary(where, kind, dims, data)
        else:
            array = from_json(where, kind, dims, item.get("data"))
    except ValueError as error:  # numpy has fewer dimensions than JSON has numbers
        raise invalid(f"{where}.shape: {error}") from None
    return Tensor(name, kind, array), is_binary


def _raw(field: str, size: Any, binary: _Binary | None) -> memoryview:
    if type(size) is not int or size < 0:
        raise invalid(f"{field}: must be a number of bytes")
    if binary is None:
        raise invalid(f"{field}: is given, but there is no {HEADER_LENGTH} header")
    return binary.take(field, size)


def _requested(where: str, item: Any, default: bool) -> RequestedOutput:
    name = _name(where, item)
    parameters = _parameters(where, item)
    return RequestedOutput(name, flag(f"{where}.parameters", parameters, "binary_data", default))


def _output(output: OutputTensor, chunks: list[Buffer]) -> dict[str, Any]:
    tensor = output.tensor
    item: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.array.shape,
    }
    if output.binary:
        chunk = to_binary(tensor.array)
        chunks.append(chunk)
        item["parameters"] = {"binary_data_size": len(chunk)}
    else:
        item["data"] = to_json(f"output {tensor.name!r}", tensor.array)
    return item


def _list(document: dict[str, Any], field: str) -> list[Any]:
    value = document.get(field)
    if not isinstance(value, list):
        raise invalid(f"{field}: must be a list")
    return value


def _text(document: dict[str, Any], field: str) -> str | None:
    value = document.get(field)
    if value is not None and not isinstance(value, str):
        raise invalid(f"{field}: must be a text")
    return value


def _name(where: str, item: Any) -> str:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise invalid(f"{where}: must be an object with a name")
    name: str = item["name"]
    return name


def _parameters(where: str, item: dict[str, Any]) -> dict[str, Any]:
    field = f"{where}.parameters".removeprefix(".")
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise invalid(f"{field}: must be an object")
    check_parameters(field, parameters)
    return parameters
