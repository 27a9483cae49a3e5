"""What bodies look like, as OpenAPI 3.1 has it, which is JSON Schema 2020-12."""

from __future__ import annotations

from typing import Any, Final

from pilothouse_runtime.codecs.oip import HEADER_LENGTH
from pilothouse_runtime.contract import Phase
from pilothouse_runtime.core.explaining import DEFAULT_STEPS, MOST_STEPS, Method
from pilothouse_runtime.core.tensors import ANY, Datatype

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_DATATYPE: Final[Schema] = {"type": "string", "enum": [str(datatype) for datatype in Datatype]}
_ID: Final[Schema] = {"type": ["string", "null"], "description": "Comes back in the answer."}


def schemas() -> dict[str, Schema]:
    """Return the schemas by name."""
    return {
        "Error": _object(
            {"error": {"type": "string", "description": "What is wrong, and what would be right."}}
        ),
        "Live": _object({"live": {"const": True}}),
        "PodReport": _object(
            {
                "ready": _FLAG,
                "state": {"$ref": "#/components/schemas/Phase"},
                "message": {"type": "string", "description": "For people: what is going on in the phase."},
                "since": {
                    "type": "number",
                    "minimum": 0,
                    "description": "Unix seconds when the phase began.",
                },
                "history": {"type": "array", "minItems": 1, "items": _list_item("PhaseTime")},
            }
        ),
        "Phase": {"type": "string", "enum": [str(phase) for phase in Phase]},
        "PhaseTime": _object(
            {
                "phase": {"$ref": "#/components/schemas/Phase"},
                "since": _NUMBER,
                "seconds": {
                    "type": ["number", "null"],
                    "description": "How long it took; null while it lasts.",
                },
            }
        ),
        "ServerMetadata": _object(
            {"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}
        ),
        "ModelMetadata": _object(
            {
                "name": _TEXT,
                "versions": {"type": "array", "items": _TEXT},
                "platform": _TEXT,
                "inputs": {"type": "array", "items": _list_item("TensorMetadata")},
                "outputs": {"type": "array", "items": _list_item("TensorMetadata")},
            }
        ),
        "TensorMetadata": _object(
            {
                "name": _TEXT,
                "datatype": _DATATYPE,
                "shape": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": ANY},
                    "description": f"{ANY} stands for any size.",
                },
            }
        ),
        "ModelReady": _object({"name": _TEXT, "ready": _FLAG}),
        "ModelList": _object({"models": {"type": "array", "items": _TEXT}}),
        **_version_2(),
        **_version_1(),
        **_explanations(),
    }


def _version_2() -> dict[str, Schema]:
    shape = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}}
    data = {
        "type": "array",
        "description": "Flat in row-major order, or nested like the shape.",
    }
    binary_size = {
        "type": "integer",
        "minimum": 0,
        "description": f"Bytes of this tensor after the JSON part, in the order of the tensors; see {HEADER_LENGTH}.",
    }
    return {
        "InferRequest": _object(
            {
                "id": _ID,
                "parameters": _parameters(
                    binary_data_output={"type": "boolean", "description": "Send outputs as binary data."},
                    timeout={
                        "type": ["integer", "null"],
                        "minimum": 0,
                        "description": "Microseconds for which the answer is waited for; 0 is for ever.",
                    },
                ),
                "inputs": {"type": "array", "items": _list_item("InputTensor")},
                "outputs": {
                    "type": "array",
                    "items": _list_item("RequestedOutput"),
                    "description": "Which outputs are wanted; where this is left out, all.",
                },
            },
            optional=("id", "parameters", "outputs"),
        ),
        "InputTensor": _object(
            {
                "name": _TEXT,
                "datatype": _DATATYPE,
                "shape": shape,
                "parameters": _parameters(binary_data_size=binary_size),
                "data": data,
            },
            optional=("parameters", "data"),
        )
        | {
            "anyOf": [
                {"required": ["data"]},
                {
                    "required": ["parameters"],
                    "properties": {"parameters": {"required": ["binary_data_size"]}},
                },
            ]
        },
        "RequestedOutput": _object(
            {"name": _TEXT, "parameters": _parameters(binary_data=_FLAG)}, optional=("parameters",)
        ),
        "InferResponse": _object(
            {
                "model_name": _TEXT,
                "model_version": _TEXT,
                "id": _TEXT,
                "outputs": {"type": "array", "items": _list_item("OutputTensor")},
            },
            optional=("id",),
        ),
        "OutputTensor": _object(
            {
                "name": _TEXT,
                "datatype": _DATATYPE,
                "shape": shape,
                "parameters": _object({"binary_data_size": binary_size}),
                "data": {
                    "type": "array",
                    "items": {"type": ["number", "boolean", "string", "null"]},
                    "description": "Flat in row-major order. NaN and infinity, which JSON lacks, are null.",
                },
            },
            optional=("parameters", "data"),
        ),
    }


def _version_1() -> dict[str, Schema]:
    parameters: dict[str, Schema] = {
        "parameters": {"description": "Of an object, `timeout` as in version 2."}
    }
    signature: dict[str, Schema] = {"signature_name": {"enum": ["serving_default", "", None]}}
    rows: Schema = {
        "type": "array",
        "minItems": 1,
        "description": "Rows: of several inputs, objects by their names.",
    }
    columns: Schema = {"description": "Columns: of several inputs, an object by their names."}
    common = {**signature, **parameters}
    optional = tuple(common)
    return {
        "PredictRequest": {
            "oneOf": [
                _object({"instances": rows, **common}, optional) | {"not": {"required": ["inputs"]}},
                _object({"inputs": columns, **common}, optional) | {"not": {"required": ["instances"]}},
            ]
        },
        "PredictResponse": {
            "oneOf": [
                _object({"predictions": {"type": "array", "description": "One for each row."}}),
                _object({"outputs": {"description": "Of several outputs, an object by their names."}}),
            ]
        },
    }


def _explanations() -> dict[str, Schema]:
    size: Schema = {"type": "integer", "minimum": 1}
    sizes: Schema = {
        "description": "For all dimensions of a row, for each of them, or by input.",
        "type": ["integer", "array", "object"],
    }
    parameters: Schema = {
        "type": "object",
        "properties": {
            "method": {"enum": [str(method) for method in Method]},
            "output": {"type": ["string", "null"], "description": "Which output; of one, that one."},
            "target": {
                "type": ["integer", "array", "null"],
                "items": {"type": "integer"},
                "description": "A class for all rows, or one for each; of outputs with more than two dimensions, an"
                " index in each but the first. Where it is left out: the class with the largest score.",
            },
            "baseline": {
                "type": ["number", "array", "object"],
                "description": "What stands for nothing: a number, a row, or these by input. 0.",
            },
            "steps": size
            | {"maximum": MOST_STEPS, "description": f"Of integrated gradients. {DEFAULT_STEPS}."},
            "window": sizes,
            "strides": sizes,
            "timeout": {"type": ["integer", "null"], "minimum": 0, "description": "Microseconds."},
            "binary_data_output": _FLAG,
        },
        "additionalProperties": False,
    }
    told: dict[str, Schema] = {
        "method": {"enum": [str(method) for method in Method]},
        "output": _TEXT,
        "target": {"type": "array", "items": {"type": "integer"}},
        "convergence_delta": {"type": "array", "items": {"type": ["number", "null"]}},
    }
    optional = ("target", "convergence_delta")
    of_version_2, of_version_1 = _version_2(), _version_1()
    asked, answered = of_version_2["InferRequest"], of_version_2["InferResponse"]
    properties = {name: schema for name, schema in asked["properties"].items() if name != "outputs"}
    return {
        "ExplainRequest": _object(properties | {"parameters": parameters}, ("id", "parameters")),
        "ExplainResponse": _object(answered["properties"] | {"parameters": _object(told, optional)}, ("id",)),
        "ExplainV1Request": {
            "oneOf": [
                form | {"properties": form["properties"] | {"parameters": parameters}}
                for form in of_version_1["PredictRequest"]["oneOf"]
            ]
        },
        "ExplainV1Response": _object(
            {"explanations": {"description": "In rows or columns, as predictions are."}, **told}, optional
        ),
    }


def _object(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


def _list_item(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameters(**known: Schema) -> Schema:
    """Return the schema of parameters: others than these are taken and mean nothing, but for two that are refused."""
    refused = dict.fromkeys(("shared_memory_region", "classification"), False)
    return {"type": "object", "properties": {**known, **refused}}
