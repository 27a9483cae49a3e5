"""The OpenAPI 3.1 document of the REST front; `python -m pilothouse_runtime.serve.openapi --write` keeps a copy.

Every GET can be asked as HEAD too, which the document leaves out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

from pilothouse_runtime import contract
from pilothouse_runtime.codecs.oip import HEADER_LENGTH
from pilothouse_runtime.core.errors import Code
from pilothouse_runtime.serve.openapi_schemas import schemas

Part = dict[str, Any]

COPY: Final = Path(__file__).parents[3] / "docs" / "openapi.json"

# Whatever is asked, the request may be broken, slow or too large.
_ANY: Final = (
    Code.INVALID_ARGUMENT,
    Code.METHOD_NOT_ALLOWED,
    Code.REQUEST_TIMEOUT,
    Code.TOO_LARGE,
    Code.RESOURCE_EXHAUSTED,
    Code.HEADERS_TOO_LARGE,
)
_RUN: Final = (
    Code.NOT_FOUND,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.INTERNAL,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
)
_MEANINGS: Final = {
    Code.INVALID_ARGUMENT: "The request is wrong: says which field breaks which rule.",
    Code.NOT_FOUND: "Another model, version or path.",
    Code.METHOD_NOT_ALLOWED: "Another method; `Allow` says which.",
    Code.REQUEST_TIMEOUT: "The request did not come whole in time.",
    Code.TOO_LARGE: "The body is too large, or would be once it is decompressed.",
    Code.UNSUPPORTED_MEDIA_TYPE: "A Content-Encoding other than gzip and deflate.",
    Code.RESOURCE_EXHAUSTED: "Too many requests wait already, or their bodies take too much memory.",
    Code.HEADERS_TOO_LARGE: "The headers are too large.",
    Code.INTERNAL: "The model failed on this request.",
    Code.UNAVAILABLE: "The model is not loaded yet.",
    Code.DEADLINE_EXCEEDED: "The time for which the client waits is over.",
}


def document() -> bytes:
    """Return the document as JSON."""
    told = {
        "openapi": "3.1.0",
        "info": {
            "title": "Pilothouse model server",
            "version": "2",
            "summary": "The Open Inference Protocol v2, version 1's predictions, and explanations",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas(),
            "parameters": {
                "Model": _in_path("model", "The model's name; a server has one."),
                "Version": _in_path("version", "The model's version."),
            },
        },
    }
    return json.dumps(told, indent=1).encode() + b"\n"


def _paths() -> Part:
    paths: Part = {
        "/v2": {"get": _get("serverMetadata", "ServerMetadata")},
        contract.LIVE_PATH: {"get": _get("live", "Live")},
        contract.READY_PATH: {"get": _get("ready", "PodReport", not_ready="PodReport")},
        contract.METRICS_PATH: {"get": _metrics()},
        "/openapi.json": {"get": _get("openapi", None)},
        "/v1/models": {"get": _get("listModels", "ModelList")},
        "/v1/models/{model}": {
            "parameters": [_reference("parameters", "Model")],
            "get": _get("modelReadyV1", "ModelReady", Code.NOT_FOUND, not_ready="ModelReady"),
        },
        "/v1/models/{model}:predict": {
            "parameters": [_reference("parameters", "Model")],
            "post": _version_1("predict", "Predict", "The predictions."),
        },
        "/v1/models/{model}:explain": {
            "parameters": [_reference("parameters", "Model")],
            "post": _version_1("explainV1", "ExplainV1", "The attributions."),
        },
    }
    of_model, of_version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    for path, suffix, names in ((of_model, "", ["Model"]), (of_version, "Version", ["Model", "Version"])):
        named = {"parameters": [_reference("parameters", name) for name in names]}
        metadata = _get(f"model{suffix}Metadata", "ModelMetadata", Code.NOT_FOUND, Code.UNAVAILABLE)
        ready = _get(f"model{suffix}Ready", "ModelReady", Code.NOT_FOUND, not_ready="ModelReady")
        paths[path] = {**named, "get": metadata}
        paths[f"{path}/ready"] = {**named, "get": ready}
        paths[f"{path}/infer"] = {**named, "post": _infer(f"infer{suffix}")}
        explain = _infer(f"explain{suffix}", "Explain", "The attributions. Binary ones")
        paths[f"{path}/explain"] = {**named, "post": explain}
    return paths


def _get(name: str, schema: str | None, *errors: Code, not_ready: str | None = None) -> Part:
    responses = {"200": _answer("OK", _json(schema)), **_errors(*errors)}
    if not_ready is not None:
        responses[str(int(Code.UNAVAILABLE))] = _answer("Requests are not welcome now.", _json(not_ready))
    return {"operationId": name, "responses": _ordered(responses)}


def _metrics() -> Part:
    text = {"schema": {"type": "string"}}
    content = {"text/plain": text, "application/openmetrics-text": text}
    responses = {"200": _answer("Prometheus' text format, or OpenMetrics to those who accept it.", content)}
    return {"operationId": "metrics", "responses": _ordered(responses | _errors())}


def _infer(name: str, kind: str = "Infer", what: str = "The prediction. Binary outputs") -> Part:
    header = {"schema": {"type": "integer", "minimum": 0}}
    told = "Bytes of the JSON part of the body; what follows is the raw data of tensors that say so."
    answer = _answer(
        f"{what} follow the JSON part.",
        {**_json(f"{kind}Response"), "application/octet-stream": {}},
        {HEADER_LENGTH: {**header, "description": f"{told} Left out where there are none."}, **_ENCODED},
    )
    return {
        "operationId": name,
        "parameters": [{"name": HEADER_LENGTH, "in": "header", "description": told, **header}],
        "requestBody": {
            "required": True,
            "description": "May be compressed: Content-Encoding gzip or deflate.",
            "content": {**_json(f"{kind}Request"), "application/octet-stream": {}},
        },
        "responses": _ordered({"200": answer, **_errors(*_RUN)}),
    }


def _version_1(name: str, kind: str, meaning: str) -> Part:
    answer = _answer(meaning, _json(f"{kind}Response"), _ENCODED)
    return {
        "operationId": name,
        "requestBody": {
            "required": True,
            "description": "May be compressed: Content-Encoding gzip or deflate.",
            "content": _json(f"{kind}Request"),
        },
        "responses": _ordered({"200": answer, **_errors(*_RUN)}),
    }


_ENCODED: Final = {
    "Content-Encoding": {
        "description": "Of larger answers, to those who accept it.",
        "schema": {"enum": ["gzip", "deflate"]},
    }
}


def _errors(*codes: Code) -> dict[str, Part]:
    headers = {
        Code.METHOD_NOT_ALLOWED: {"Allow": {"required": True, "schema": {"type": "string"}}},
        Code.RESOURCE_EXHAUSTED: _RETRY,
        Code.UNAVAILABLE: _RETRY,
    }
    return {
        str(int(code)): _answer(_MEANINGS[code], _json("Error"), headers.get(code)) for code in _ANY + codes
    }


_RETRY: Final = {
    "Retry-After": {
        "required": True,
        "description": "Seconds after which another try may do better.",
        "schema": {"type": "integer", "minimum": 1},
    }
}


def _answer(meaning: str, content: Part, headers: Part | None = None) -> Part:
    return {"description": meaning, **({"headers": headers} if headers else {}), "content": content}


def _json(schema: str | None) -> Part:
    return {"application/json": {"schema": _reference("schemas", schema) if schema else {"type": "object"}}}


def _reference(kind: str, name: str) -> Part:
    return {"$ref": f"#/components/{kind}/{name}"}


def _in_path(name: str, told: str) -> Part:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": told,
        "schema": {"type": "string", "minLength": 1},
    }


def _ordered(responses: dict[str, Part]) -> dict[str, Part]:
    return dict(sorted(responses.items()))


def main() -> int:
    """Write the copy in docs/, or check that it is up to date."""
    parser = argparse.ArgumentParser(prog="python -m pilothouse_runtime.serve.openapi")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--write", action="store_true")
    how.add_argument("--check", action="store_true")
    if parser.parse_args().write:
        COPY.write_bytes(document())
    elif not COPY.exists() or COPY.read_bytes() != document():
        print(f"{COPY} is not what the code says: run make generate")  # noqa: T201 - a tool of the command line
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
