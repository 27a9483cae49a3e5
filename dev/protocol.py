"""Compiles the gRPC protocol's .proto files into the module that the runtime reads: `python -m dev.protocol --write`.

The runtime makes its message classes from descriptors and not from modules that protoc writes: those enter their names
into a pool that the whole process shares, where a client of the same protocol has its own.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Final, NoReturn

FOLDER: Final = Path(__file__).parents[1] / "runtime/pilothouse_runtime/codecs/proto"
MODULE: Final = FOLDER / "descriptors.py"

_TEMPLATE: Final = '''"""The descriptors of {files}, as `make generate` has them from protoc."""

# A google.protobuf.FileDescriptorSet, in base64.
DESCRIPTORS = """
{text}
"""
'''


def compiled() -> str:
    """Return the module's text. Raises CalledProcessError where protoc finds fault with a file, which it tells."""
    files = sorted(path.name for path in FOLDER.glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}", *files],
            check=True,
        )
        text = base64.b64encode(out.read_bytes()).decode()
    return _TEMPLATE.format(files=" and ".join(files), text="\n".join(textwrap.wrap(text, 100)))


def main() -> NoReturn:
    """Write the module, or check that it is what its sources give."""
    parser = argparse.ArgumentParser(prog="dev.protocol", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write the module")
    what.add_argument("--check", action="store_true", help="fail where the module is old")
    if parser.parse_args().write:
        MODULE.write_text(compiled())
        sys.exit(0)
    if MODULE.read_text() != compiled():
        sys.exit(f"{MODULE} is not what its .proto files give; run: make generate")
    sys.exit(0)


if __name__ == "__main__":
    main()
