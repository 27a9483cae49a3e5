"""Bodies that nobody should send: each gets an answer that is no 500, and is counted once."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilothouse_runtime.core.tensors import Datatype, Signature, TensorSpec
from tests.support.http_wire import INFER, ROW, Answer, Wire, post

PREDICT: Final = b"/v1/models/tiny:predict"
EVERY: Final = Signature(
    tuple(TensorSpec(datatype.lower(), datatype, (-1, -1)) for datatype in Datatype),
    (),
)
SIGNATURES: Final = {"none": None, "row": ROW, "every": EVERY}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
shapes = st.lists(
    st.integers(min_value=0, max_value=4) | st.sampled_from([-1, 2**31, 2**62, 2**63, 1.0, True]), max_size=4
)
datatypes = st.sampled_from([*map(str, Datatype), "FP8", "", None])
names = st.sampled_from(["x", "y", ""]) | st.text(max_size=3)
PARAMETERS: Final = (
    "binary_data_size",
    "binary_data",
    "binary_data_output",
    "timeout",
    "shared_memory_region",
)
parameters = st.dictionaries(st.sampled_from(PARAMETERS), st.integers(-1, 40) | scalars, max_size=2)
tensors = st.fixed_dictionaries(
    {"name": names, "datatype": datatypes, "shape": shapes},
    optional={"data": values, "parameters": parameters | values},
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3) | values},
    optional={
        "id": values,
        "parameters": parameters | values,
        "outputs": st.lists(
            st.fixed_dictionaries({"name": names}, optional={"parameters": parameters}), max_size=2
        )
        | values,
    },
)
fitting = st.sampled_from(["none", "row"])


def ask(signature: str, body: bytes, path: bytes = INFER, **headers: str) -> Answer:
    """Send a body twice, and check what must hold whatever it is."""
    wire = Wire(SIGNATURES[signature])
    client = wire.open()
    client.send(post(body, path, **headers) * 2)
    client.leave()
    one, again = client.answers()
    assert one == again
    assert one.status in (200, 400, 415)
    told = one.body[: int(one.headers.get(b"inference-header-content-length", len(one.body)))]
    assert set(json.loads(told)) == {"error"} or one.status == 200
    wire.check_settled()
    assert wire.counted() == {one.status: 2}
    return one


@given(body=requests | values, signature=fitting)
@example(
    body={"inputs": [{"name": "x", "datatype": "FP32", "shape": [0, 2**62], "data": []}]}, signature="none"
)
def test_documents(body: Any, signature: str) -> None:
    ask(signature, json.dumps(body).encode())


@given(body=requests, extra=st.binary(max_size=40), length=st.integers(min_value=-60, max_value=60))
def test_binary_parts(body: Any, extra: bytes, length: int) -> None:
    head = json.dumps(body).encode()
    ask("none", head + extra, Inference_Header_Content_Length=str(len(head) + min(length, 0) // 2))
    ask("none", head + extra, Inference_Header_Content_Length=str(length))


@given(
    datatype=st.sampled_from(list(Datatype)),
    shape=st.lists(st.integers(min_value=0, max_value=3), max_size=3),
    data=st.binary(max_size=80),
    size=st.integers(min_value=-1, max_value=100),
    pad=st.integers(min_value=0, max_value=7),
    binary=st.booleans(),
)
def test_raw_tensors(
    datatype: Datatype, shape: list[int], data: bytes, size: int, pad: int, binary: bool
) -> None:
    """Sizes that lie, tensors that are not aligned, BYTES whose lengths lead anywhere."""
    first = {"name": "a", "datatype": "UINT8", "shape": [pad], "parameters": {"binary_data_size": pad}}
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [first, tensor], "parameters": {"binary_data_output": binary}}).encode()
    ask("none", head + bytes(pad) + data, Inference_Header_Content_Length=str(len(head)))


@given(
    elements=st.lists(st.binary(max_size=6), max_size=4), lie=st.integers(min_value=-5, max_value=2**32 - 1)
)
def test_bytes_elements(elements: list[bytes], lie: int) -> None:
    packed = [struct.pack("<I", len(element)) + element for element in elements]
    for data in (b"".join(packed), b"".join([*packed, struct.pack("<I", abs(lie))])):
        tensor = {
            "name": "x",
            "datatype": "BYTES",
            "shape": [len(elements)],
            "parameters": {"binary_data_size": len(data)},
        }
        document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        head = json.dumps(document).encode()
        answer = ask("none", head + data, Inference_Header_Content_Length=str(len(head)))
        if data == b"".join(packed):
            assert answer.status == 200
            assert answer.body.endswith(data)


@given(
    body=st.fixed_dictionaries({}, optional={"instances": values, "inputs": values, "parameters": values}),
    signature=st.sampled_from(sorted(SIGNATURES)),
)
@example(body={"instances": [{"b64": base64.b64encode(b"x").decode()}]}, signature="every")
def test_version_1(body: Any, signature: str) -> None:
    ask(signature, json.dumps(body).encode(), PREDICT)


@given(
    rows=st.lists(st.dictionaries(st.sampled_from([spec.name for spec in EVERY.inputs]), values), max_size=3)
)
def test_version_1_with_many_inputs(rows: Any) -> None:
    ask("every", json.dumps({"instances": rows}).encode(), PREDICT)
    ask("every", json.dumps({"inputs": rows[0] if rows else {}}).encode(), PREDICT)


@given(
    body=st.binary(max_size=300), encoding=st.sampled_from(["gzip", "deflate", "identity", "GZIP", "br", ""])
)
@example(body=gzip.compress(b"{}") + b"more", encoding="gzip")
def test_compressed(body: bytes, encoding: str) -> None:
    ask("row", body, Content_Encoding=encoding)


@pytest.mark.parametrize("path", [INFER, PREDICT])
@pytest.mark.parametrize("depth", [60, 70, 500, 1020, 5000, 100_000])
@pytest.mark.parametrize("around", ['{"instances": %s}', '{"inputs": %s}', '{"id": %s, "inputs": []}', "%s"])
def test_deep_lists(path: bytes, depth: int, around: str) -> None:
    nested = "[" * depth + "1" + "]" * depth
    for signature in ("none", "row"):
        ask(signature, (around % nested).encode(), path)


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("depth", [30, 64, 65, 200, 1000])
def test_deep_data(datatype: Datatype, depth: int) -> None:
    value = '""' if datatype is Datatype.BYTES else "true" if datatype is Datatype.BOOL else "1"
    nested = "[" * depth + value + "]" * depth
    for shape in ([1] * depth, [1]):
        tensor = f'{{"name": "x", "datatype": "{datatype}", "shape": {shape}, "data": {nested}}}'
        ask("none", f'{{"inputs": [{tensor}]}}'.encode())
