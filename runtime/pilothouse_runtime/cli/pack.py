"""`pilothouse-runtime pack`: a servable folder from a trained model."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse_runtime.cli.usage import DONE, command, existing, number, refuse, show, tell

if TYPE_CHECKING:
    from pilothouse_runtime.pack import Packed

_DESCRIPTION = """\
Make a folder that the runtime serves from a trained model, and prove that it answers as the model does.

MODEL is what your own Python would import, on this machine and with your own code:
  train:network            a module (torch.nn.Module) or a function of tensors in train.py
  train:make_network()     called without arguments, it returns the model
or a model file (.pt2, .pt, and others that spec.model.format knows), which is copied. Pickles are refused.

  $ pilothouse-runtime pack train:network --example-inputs examples.npz --golden held-out.npz --out models/digits/2
  $ pilothouse-runtime pack 'train:Network()' --weights network.safetensors -e examples.npz -o models/digits/2

The folder gets the model (torch.export with any number of rows; TorchScript where torch.export refuses the model),
golden.npz with inputs and answers, and pilothouse.json, the manifest. It is loaded as a pod loads it, and its answers
are compared with the model's own. A ModelDeployment to paste goes to standard output, all else to standard error.
See docs/packing.md; in Python: from pilothouse_runtime.pack import pack.
"""
_ENDING = """\
exit codes: 0 packed and proved; 1 not packed, and nothing is left behind: it says why; 2 wrong use
"""
_DYNAMIC = re.compile(r"(?P<input>[^:=]+):(?P<axis>\d+)=(?P<name>[A-Za-z_]\w*)")


def run(words: Sequence[str]) -> int:
    """Pack as `words` say, and return the exit code."""
    parser = _parser()
    given = parser.parse_args(words)
    if not Path(given.model).exists() and not re.search(r":\w", given.model):
        parser.error(
            f"argument MODEL: {given.model} is neither a file nor module:attribute, as in train:network"
        )
    if find_spec("torch") is None:
        refuse("pack", "this needs PyTorch, which is not here: of the images, .../runtime holds it")
    from pilothouse_runtime.pack import PackError  # torch takes seconds, which no wrong use should

    try:
        packed = _packed(given)
    except PackError as error:
        refuse("pack", str(error))
    _report(packed)
    show(packed.deployment.rstrip())
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = command("pack", _DESCRIPTION, _ENDING)
    parser.add_argument("model", metavar="MODEL", help="module:attribute, module:attribute() or a model file")
    parser.add_argument(
        "-e",
        "--example-inputs",
        required=True,
        type=existing,
        metavar="NPZ",
        help="an array for each argument of the model, by its name; two rows or more are best. Datatypes and sizes of"
        " the served inputs are theirs",
    )
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FOLDER", help="the folder to write")
    parser.add_argument(
        "--golden",
        type=existing,
        metavar="NPZ",
        help="rows for golden.npz, as arrays input.NAME; and where you know what is right, output.NAME (labels). By"
        " default the examples, and the model's own answers",
    )
    parser.add_argument(
        "--weights", type=existing, metavar="FILE", help="a .safetensors file to load into the module"
    )
    parser.add_argument("--name", default="", help="of the ModelDeployment (digits of digits/2)")
    parser.add_argument("--version", default="", help="of the ModelDeployment (2 of digits/2, else 1)")
    parser.add_argument(
        "--format", choices=("auto", "exported", "torchscript"), default="auto", help="what to write (auto)"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="to native code, for this release of torch; served with format aotinductor only. Needs a C++ compiler"
        " here, and takes a minute",
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="NAME",
        help="name of an output; again for each further one",
    )
    parser.add_argument(
        "--fixed-batch", action="store_true", help="let inputs have the examples' number of rows only"
    )
    parser.add_argument(
        "--dynamic",
        action="append",
        default=[],
        type=_dynamic,
        metavar="INPUT:AXIS=NAME",
        help="let a further dimension have any size, as in tokens:1=length; those of one name have one size",
    )
    parser.add_argument(
        "--tolerance",
        type=number,
        metavar="X",
        help="the largest difference allowed for floats, over the largest number of an output where that is above 1"
        " (1e-4; FP16 1e-2; BF16 5e-2)",
    )
    parser.add_argument(
        "--preprocessing", default="", metavar="TEXT", help="what clients do to data before they send it"
    )
    parser.add_argument(
        "--source", default="", metavar="TEXT", help="where the model is from, such as a commit"
    )
    parser.add_argument("--force", action="store_true", help="delete what is in FOLDER, whoever wrote it")
    return parser


def _dynamic(text: str) -> tuple[str, int, str]:
    match = _DYNAMIC.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} must be INPUT:AXIS=NAME, as in tokens:1=length")
    return match["input"], int(match["axis"]), match["name"]


def _packed(given: argparse.Namespace) -> Packed:
    from pilothouse_runtime.pack import pack
    from pilothouse_runtime.pack.references import resolve
    from pilothouse_runtime.pack.samples import read_examples, read_golden_file

    examples = read_examples(given.example_inputs)
    golden = read_golden_file(given.golden) if given.golden else None
    dynamic: dict[str, dict[int, str]] = {}
    for name, axis, dimension in given.dynamic:
        dynamic.setdefault(name, {})[axis] = dimension
    model: Any = Path(given.model)
    source = given.source
    if not model.exists():
        model = resolve(given.model)
        source = source or given.model
    if given.weights:
        from pilothouse_runtime.engine.exporting.weights import load_weights

        load_weights(model, given.weights)
    return pack(
        model,
        examples,
        given.out,
        name=given.name,
        version=given.version,
        format=given.format,
        compile=given.compile,
        outputs=given.output,
        batch=not given.fixed_batch,
        dynamic=dynamic,
        golden_inputs=golden.inputs if golden else None,
        golden_outputs=golden.outputs if golden else None,
        tolerance=given.tolerance,
        preprocessing=given.preprocessing,
        source=source,
        force=given.force,
    )


def _report(packed: Packed) -> None:
    manifest = packed.manifest
    tell(f"packed {packed.folder}: {manifest.model}, format {manifest.format}")
    for field, specs in (("inputs", manifest.signature.inputs), ("outputs", manifest.signature.outputs)):
        tell(f"  {field:<9}{', '.join(map(str, specs))}")
    tell(f"  answers  differ by at most {packed.difference:.3g} from the offline answers")
    if packed.rows:
        metrics = ", ".join(f"{name} {value:.6g}" for name, value in packed.metrics.items())
        tell(f"  golden   {packed.rows} rows{f'; offline: {metrics}' if metrics else ''}")
    tell(f"  digest   {packed.digest}")
    for note in packed.notes:
        tell(f"  note     {note}")
