"""The server is held to its own OpenAPI document: by whatever the document allows, and by what it does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from pilothouse_runtime.serve.openapi import COPY, document
from tests.support.runtime_process import runtime
from tests.support.tiny_models import save_mixer

CHECKS: Final = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
)
EXAMPLES: Final = 25  # of each operation
NUMBER: Final = {"type": "number", "minimum": -1000, "maximum": 1000}
WHOLE: Final = {"enum": [*range(-5, 6)]}  # to JSON Schema 5.0 is an integer too, to the server it is not


def told() -> dict[str, Any]:
    return dict(json.loads(document()))


def fitting() -> dict[str, Any]:
    """Return the document of one server: only the name and the inputs of its model, as JSON."""
    narrow = told()
    named, schemas = narrow["components"]["parameters"], narrow["components"]["schemas"]
    named["Model"]["schema"] = {"enum": ["tiny"]}
    named["Version"]["schema"] = {"enum": ["7"]}
    for path in narrow["paths"].values():
        if "post" in path:
            path["post"]["requestBody"]["content"].pop("application/octet-stream", None)
            path["post"]["parameters"] = []
    values, counts = tensor("values", "FP32", [1, 2], NUMBER), tensor("counts", "INT64", [1], WHOLE)
    inputs = {"type": "array", "prefixItems": [values, counts], "minItems": 2, "maxItems": 2}
    parameters = only(
        output={"const": "scaled"}, method={"enum": ["integrated_gradients", "feature_ablation"]}
    )
    schemas["InferRequest"] = only(inputs=inputs)
    schemas["ExplainRequest"] = only(inputs=inputs, parameters=parameters)
    row = only(values={"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}, counts=WHOLE)
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": 5}
    schemas["PredictRequest"] = only(instances=rows)
    schemas["ExplainV1Request"] = only(instances=rows, parameters=parameters)
    return narrow


def only(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def tensor(name: str, datatype: str, shape: list[int], items: dict[str, Any]) -> dict[str, Any]:
    size = shape[0] * shape[-1]
    data = {"type": "array", "items": items, "minItems": size, "maxItems": size}
    return only(name={"const": name}, datatype={"const": datatype}, shape={"const": shape}, data=data)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("openapi")
    model = save_mixer(folder / "mixer.pt2")
    with runtime(folder, f"file://{model}", MODEL_VERSION="7", EXPLAIN="1") as process:
        process.wait_ready()
        yield process.url
        assert process.process.poll() is None
        assert [line for line in process.lines if line.get("level") == "error"] == []


# By hand, and not by the library's own plugin, which does not fit this pytest.
def operations(document_: dict[str, Any], method: str) -> list[Any]:
    found = [result.ok() for result in schemathesis.openapi.from_dict(document_).get_all_operations()]
    return [pytest.param(operation, id=operation.label) for operation in found if operation.method == method]


def ask_all(operation: Any, url: str, mode: GenerationMode) -> Counter[int]:
    """Ask what an operation allows, or what it does not; hold the answers to the document and count statuses."""
    seen: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Case) -> None:
        response = case.call(base_url=url, timeout=60)
        case.validate_response(response, checks=list(CHECKS))
        seen[response.status_code] += 1

    ask()
    return seen


@pytest.mark.parametrize("operation", operations(told(), "get"))
def test_questions(operation: Any, served: str) -> None:
    assert ask_all(operation, served, GenerationMode.POSITIVE)


@pytest.mark.parametrize("operation", operations(told(), "post"))
@pytest.mark.parametrize("mode", GenerationMode)
def test_requests_with_any_content(operation: Any, mode: GenerationMode, served: str) -> None:
    assert ask_all(operation, served, mode)


@pytest.mark.parametrize("operation", operations(fitting(), "get") + operations(fitting(), "post"))
def test_what_fits_the_model(operation: Any, served: str) -> None:
    assert ask_all(operation, served, GenerationMode.POSITIVE).keys() == {200}


def test_the_server_tells_its_document(served: str) -> None:
    assert httpx.get(f"{served}/openapi.json").raise_for_status().content == document()


def test_the_copy_for_readers_is_up_to_date() -> None:
    assert COPY.read_bytes() == document(), "run: python -m pilothouse_runtime.serve.openapi --write"
