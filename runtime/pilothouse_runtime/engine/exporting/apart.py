"""The process that compiles a model's file for the CPU that it runs on: see `engine.compiled`, which starts it."""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from pathlib import Path

import torch

from pilothouse_runtime.core.errors import LoadError, RequestError
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.signature import parse_signature
from pilothouse_runtime.core.tensors import ANY
from pilothouse_runtime.engine.batchable import zeros
from pilothouse_runtime.engine.compiled import ANSWER, PACKAGE, Order
from pilothouse_runtime.engine.datatypes import as_torch
from pilothouse_runtime.engine.exporting.anew import UncompilableError, export_anew
from pilothouse_runtime.engine.exporting.compiling import compile_program, has_compiler
from pilothouse_runtime.engine.failures import first_cause
from pilothouse_runtime.engine.forked import end_with_parent
from pilothouse_runtime.engine.graph_model import GraphModel
from pilothouse_runtime.engine.model import Shapes
from pilothouse_runtime.engine.registry import BACKENDS
from pilothouse_runtime.engine.scripted import NotStraightError

_NO_COMPILER = (
    "this container has no C++ compiler, or not the headers of torch: run it in the image that has both,"
    " .../runtime-compile (runtime.image, or the chart's runtime.compileImage), or compile the model where it is packed"
    " (pack --compile)"
)
_LONGEST = 300  # characters of what torch or the compiler say
_ROWS = 2  # torch tells 0 and 1 apart while it traces


def main() -> None:
    """Compile what standard input asks for; write a package and an answer, which says what went wrong if so."""
    order = Order(**json.load(sys.stdin))
    end_with_parent(order.parent)
    logging.disable()
    folder = Path(order.folder)
    try:
        told: dict[str, object] = {"names": _compile(order, folder / PACKAGE)}
    except (UncompilableError, NotStraightError) as error:
        told = {"failure": f"the model cannot be compiled: {error}"}
    except LoadError as error:
        told = {"failure": error.message}
    except Exception as error:
        told = {"failure": f"torch does not compile it: {_reason(error)}"}
    (folder / ANSWER).write_text(json.dumps(told))


def _compile(order: Order, package: Path) -> tuple[str, ...]:
    if not has_compiler():
        raise UncompilableError(_NO_COMPILER)
    load = importlib.import_module(
        f"pilothouse_runtime.engine.backends.{BACKENDS[Format(order.format)].module}"
    ).load
    model: GraphModel = load(Path(order.path), torch.device("cpu"), parse_signature(order.signature))
    graph = model.graph()
    signature = model.signature
    assert signature is not None  # noqa: S101 - it is in the order
    inputs = [as_torch(tensor) for tensor in zeros(signature, _shapes(model))]
    free = [[axis for axis, size in enumerate(spec.shape) if size == ANY] for spec in signature.inputs]
    program = export_anew(graph.module, graph.constants, inputs, free, checked=graph.checked)
    names = graph.names
    del model, graph
    compile_program(program, package, portable=False)
    return names


def _shapes(model: GraphModel) -> Shapes:
    """Return shapes that the model takes, all of whose free sizes are 2 or more."""
    signature = model.signature
    assert signature is not None  # noqa: S101 - it is in the order
    for shapes in model.warmup_shapes(_ROWS):
        free = [
            size
            for spec, shape in zip(signature.inputs, shapes, strict=True)
            for size, known in zip(shape, spec.shape, strict=True)
            if known == ANY
        ]
        if min(free, default=_ROWS) < _ROWS:
            continue
        try:
            model.run(zeros(signature, shapes))
        except RequestError:
            continue
        return shapes
    raise UncompilableError("it takes none of the sizes that were tried, of which all are two or more")


def _reason(error: Exception) -> str:
    """Return what torch says, or the first error of the compiler that it called."""
    compilers = re.search(r"^.*\berror: .*$", str(error), re.MULTILINE)
    return (compilers[0].strip() if compilers else first_cause(error))[:_LONGEST]


if __name__ == "__main__":
    main()
