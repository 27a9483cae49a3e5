"""`spec.model`: which model is served."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from pilothouse.api.pods import SUBDOMAIN_PATTERN
from pilothouse.api.rollout import DIGEST_PATTERN
from pilothouse.api.rules import Rule, SpecModel, one_of, unfilled
from pilothouse.api.uris import URI_PATTERN, URI_RULES, names_a_file, names_a_file_in_cel

FACTORY_PATTERN: Final = r"^$|^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"


class Format(StrEnum):
    """How a model is written."""

    AUTO = "auto"
    TORCHSCRIPT = "torchscript"
    EXPORTED = "exported"
    AOTINDUCTOR = "aotinductor"
    SAFETENSORS = "safetensors"
    STATEDICT = "statedict"
    ONNX = "onnx"
    KERAS = "keras"
    TENSORFLOW = "tensorflow"
    TRANSFORMERS = "transformers"
    MLFLOW = "mlflow"
    PYTHON = "python"


_WEIGHTS: Final = (Format.SAFETENSORS, Format.STATEDICT)
_MAY_BE_WEIGHTS: Final = (*_WEIGHTS, Format.MLFLOW, Format.AUTO)
FOLDERS: Final = (Format.TENSORFLOW, Format.TRANSFORMERS, Format.MLFLOW, Format.PYTHON)
OF_NUMBERS: Final = (
    Format.TORCHSCRIPT,
    Format.EXPORTED,
    Format.AOTINDUCTOR,
    Format.SAFETENSORS,
    Format.STATEDICT,
    Format.KERAS,
)


class Datatype(StrEnum):
    """Tensor datatypes of the Open Inference Protocol v2 that the runtime serves."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"


def _unique_names(field: str) -> Rule:
    return Rule(
        field,
        "names a tensor twice; names must be unique",
        lambda self: len({t.name for t in getattr(self, field)}) == len(getattr(self, field)),
        f"!has(self.{field}) || self.{field}.all(a, self.{field}.exists_one(b, b.name == a.name))",
    )


def _no_texts(field: str) -> Rule:
    return Rule(
        field,
        "has a tensor of BYTES (texts), which a model of this format cannot have: PyTorch runs it, on numbers only",
        lambda self: (
            self.format not in OF_NUMBERS
            or all(tensor.datatype is not Datatype.BYTES for tensor in getattr(self, field))
        ),
        f"!has(self.{field}) || !has(self.format) || !(self.format in {one_of(OF_NUMBERS)}) || "
        f"self.{field}.all(tensor, tensor.datatype != 'BYTES')",
    )


class Tensor(SpecModel):
    """One input or output of a model."""

    name: str = Field(min_length=1, max_length=63, description="Name of the tensor in requests and answers.")
    datatype: Datatype = Field(description="Datatype, as the Open Inference Protocol writes it.")
    shape: tuple[Annotated[int, Field(ge=-1, le=2**31 - 1)], ...] = Field(
        max_length=16,
        description="Size of each dimension; -1 for one that is free, as the batch is. Such as [-1, 64].",
    )

    rules = (
        Rule(
            "shape",
            "has a dimension of size 0; each is -1 (free) or at least 1",
            lambda self: 0 not in self.shape,
            "self.shape.all(d, d != 0)",
        ),
    )


class Model(SpecModel):
    """Which model is served."""

    uri: str = Field(
        pattern=URI_PATTERN,
        max_length=4096,
        description="Where the model is: file:///path in the runtime image, pvc://claim/path on a "
        "PersistentVolumeClaim of the same namespace, http(s)://host/path, s3://bucket/key, gs://bucket/key, "
        "az://container/blob, hf://owner/name[@revision][/path], or oci://registry/name:tag. "
        "A key or path that ends with / is a folder.",
    )
    version: str = Field(
        default="",
        max_length=63,
        description="What people call this version; kubectl and the server show it. It identifies nothing.",
    )
    digest: str | None = Field(
        default=None,
        pattern=DIGEST_PATTERN,
        max_length=71,
        description="sha256:<64 lower case hex digits> of the file or folder; checked before the model is loaded.",
    )
    secret_name: str = Field(
        default="",
        pattern=f"^$|{SUBDOMAIN_PATTERN}",
        max_length=253,
        description="Secret of the same namespace with credentials for the source, and for those of rollout.validation "
        "and runtime.drift. Its keys are environment variables of the containers that fetch these, and of no other. "
        "Default: none.",
        json_schema_extra=unfilled,
    )
    format: Format = Field(
        default=Format.AUTO,
        description="How the model is written: torchscript (.pt), exported (torch.export, .pt2), safetensors, onnx, "
        "keras, tensorflow (SavedModel), transformers or mlflow (folders), or auto: look inside. What holds code or "
        "pickles is loaded only if named: aotinductor (.pt2), statedict (torch.save), python (a folder with model.py).",
    )
    factory: str = Field(
        default="",
        pattern=FACTORY_PATTERN,
        max_length=253,
        description="module:function of a package in the image that makes the network, for a file that holds weights "
        "only (safetensors, statedict), such as my_package.models:resnet.",
        json_schema_extra=unfilled,
    )
    inputs: tuple[Tensor, ...] = Field(
        default=(),
        max_length=32,
        description="Inputs, in the model's order, for a file that does not describe them.",
    )
    outputs: tuple[Tensor, ...] = Field(
        default=(),
        max_length=32,
        description="Outputs, in the model's order, for a file that does not describe them.",
    )

    rules = (
        *URI_RULES,
        Rule(
            "uri",
            f"names a file, but a model whose format is {', '.join(FOLDERS[:-1])} or {FOLDERS[-1]} is a folder: "
            "with s3://, gs://, az:// and hf:// end it with /; http(s):// brings files only",
            lambda self: self.format not in FOLDERS or not names_a_file(self.uri),
            f"!has(self.format) || !(self.format in {one_of(FOLDERS)}) || !{names_a_file_in_cel('self.uri')}",
        ),
        _unique_names("inputs"),
        _unique_names("outputs"),
        _no_texts("inputs"),
        _no_texts("outputs"),
        Rule(
            "outputs",
            "are described, but inputs are not; describe both or the inputs alone",
            lambda self: not self.outputs or bool(self.inputs),
            "!has(self.outputs) || size(self.outputs) == 0 || has(self.inputs) && size(self.inputs) > 0",
        ),
        Rule(
            "factory",
            "is missing; a file whose format is safetensors or statedict holds weights only: name what makes the "
            "network, as in my_package.models:resnet",
            lambda self: self.format not in _WEIGHTS or bool(self.factory),
            f"!has(self.format) || !(self.format in {one_of(_WEIGHTS)}) || has(self.factory) && self.factory != ''",
        ),
        Rule(
            "factory",
            "is for weights only; leave it out, or let format be safetensors, statedict, mlflow or auto",
            lambda self: not self.factory or self.format in _MAY_BE_WEIGHTS,
            "!has(self.factory) || self.factory == '' || !has(self.format) || "
            f"self.format in {one_of(_MAY_BE_WEIGHTS)}",
        ),
    )
