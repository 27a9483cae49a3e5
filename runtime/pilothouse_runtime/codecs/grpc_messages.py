"""Requests and answers of the Open Inference Protocol v2 over gRPC: messages to tensors and back.

The data of all inputs is in typed contents or, faster and for every datatype, raw in `raw_input_contents`. An answer
has its data where the request had, unless the parameter `binary_data_output` of the request or `binary_data` of an
output says otherwise, which is how KServe takes the binary tensor extension into gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilothouse_runtime.codecs.elements import from_binary, to_binary
from pilothouse_runtime.codecs.grpc_contents import from_contents, has_contents, to_contents
from pilothouse_runtime.codecs.grpc_schema import message_class, parse
from pilothouse_runtime.codecs.parameters import check_parameters, flag, timeout_of
from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.requests import InferRequest, InferResponse, RequestedOutput
from pilothouse_runtime.core.tensors import Datatype, Tensor

_InferRequest = message_class("inference.ModelInferRequest")
_InferResponse = message_class("inference.ModelInferResponse")
_MetadataResponse = message_class("inference.ModelMetadataResponse")
_ReadyRequest = message_class("inference.ModelReadyRequest")  # as a ModelMetadataRequest is: name and version
_ReadyResponse = message_class("inference.ModelReadyResponse")
_ServerMetadataResponse = message_class("inference.ServerMetadataResponse")


def parse_infer(body: bytes) -> Any:
    """Return a ModelInferRequest, of which nothing is checked yet. Raises RequestError for what is none."""
    return parse(_InferRequest, body)


def named_model(name: str, version: str) -> tuple[str, str | None]:
    """Return the model and the version that a message names: an empty version is any."""
    return name, version or None


def decode_model(body: bytes) -> tuple[str, str | None]:
    """Return model and version of a ModelReadyRequest or ModelMetadataRequest. Raises RequestError for what is none."""
    message = parse(_ReadyRequest, body)
    return named_model(message.name, message.version)


def decode_infer(message: Any) -> InferRequest:
    """Return the request in a ModelInferRequest.

    Raises:
        RequestError: says which field breaks which rule.
    """
    parameters = _parameters("parameters", message.parameters)
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise invalid(
            f"raw_input_contents: must have one element for each of the {len(message.inputs)} inputs, got {len(raw)}"
        )
    # Triton's client sends everything raw and reads nothing else, also where there is nothing to send.
    binary = flag("parameters", parameters, "binary_data_output", bool(raw) or not message.inputs)
    inputs = tuple(
        _tensor(f"inputs[{index}]", item, raw[index] if raw else None)
        for index, item in enumerate(message.inputs)
    )
    outputs = tuple(
        _requested(f"outputs[{index}]", item, binary) for index, item in enumerate(message.outputs)
    )
    return InferRequest(inputs, outputs, message.id or None, binary, timeout_of(parameters))


def encode_infer(response: InferResponse) -> bytes:
    """Return an answer as a ModelInferResponse: all outputs raw where one is to be, or can be sent in no other way."""
    message = _InferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.id or ""
    )
    raw = any(output.binary or not has_contents(output.tensor.datatype) for output in response.outputs)
    for tensor in (output.tensor for output in response.outputs):
        item = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        if raw:
            message.raw_output_contents.append(bytes(to_binary(tensor.array)))
        else:
            to_contents(item.contents, tensor.datatype, tensor.array)
    body: bytes = message.SerializeToString()
    return body


def encode_server_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return the server's metadata, with the names that JSON has for it, as a ServerMetadataResponse."""
    return _encoded(_ServerMetadataResponse, metadata)


def encode_model_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return a model's metadata, with the names that JSON has for it, as a ModelMetadataResponse."""
    return _encoded(_MetadataResponse, metadata)


def encode_flag(value: bool) -> bytes:
    """Return a ServerLiveResponse, ServerReadyResponse or ModelReadyResponse: each is one flag with the number 1."""
    return _encoded(_ReadyResponse, {"ready": value})


def _encoded(cls: Any, fields: Mapping[str, Any]) -> bytes:
    message = cls(**{name: fields[name] for name in cls.DESCRIPTOR.fields_by_name})
    body: bytes = message.SerializeToString()
    return body


def _tensor(where: str, item: Any, raw: bytes | None) -> Tensor:
    if item.datatype not in Datatype.__members__:
        raise invalid(f"{where}.datatype: {item.datatype!r} is none of {', '.join(Datatype)}")
    datatype, shape = Datatype(item.datatype), tuple(item.shape)
    if any(size < 0 for size in shape):
        raise invalid(f"{where}.shape: must be a list of sizes")
    _parameters(f"{where}.parameters", item.parameters)
    try:
        if raw is None:
            array = from_contents(where, datatype, shape, item.contents)
        elif item.contents.ListFields():
            raise invalid(
                f"{where}: has both contents and raw_input_contents; send all inputs in one of them"
            )
        else:
            array = from_binary(where, datatype, shape, memoryview(raw))
    except ValueError as error:  # numpy has fewer dimensions than a message has room for
        raise invalid(f"{where}.shape: {error}") from None
    return Tensor(item.name, datatype, array)


def _requested(where: str, item: Any, default: bool) -> RequestedOutput:
    parameters = _parameters(f"{where}.parameters", item.parameters)
    return RequestedOutput(item.name, flag(f"{where}.parameters", parameters, "binary_data", default))


def _parameters(field: str, messages: Any) -> dict[str, Any]:
    """Return the values of a map of InferParameter; None where one has no choice."""
    if not messages:
        return {}
    parameters = {}
    for name, parameter in messages.items():
        choice = parameter.WhichOneof("parameter_choice")
        parameters[name] = None if choice is None else getattr(parameter, choice)
    check_parameters(field, parameters)
    return parameters
