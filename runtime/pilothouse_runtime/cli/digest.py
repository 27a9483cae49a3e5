"""`pilothouse-runtime digest`: what spec.model.digest wants."""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse_runtime.cli.usage import command, existing, refuse, show
from pilothouse_runtime.digests import DigestError, digest_of

_DESCRIPTION = """\
Print the digest of a model, a file or a folder, as spec.model.digest of a ModelDeployment wants it. A model with
another digest is never loaded.

  $ pilothouse-runtime digest digits-cnn.pt2
  sha256:5f9c...

The same without this program: sha256sum of a file; in a folder
  find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum
"""
_ENDING = """\
exit codes: 0 printed; 1 there is no digest (a link in the folder, no file, not readable: it says which); 2 wrong use
"""


def run(words: Sequence[str]) -> int:
    """Print the digest of the path in `words`, and return the exit code."""
    parser = command("digest", _DESCRIPTION, _ENDING)
    parser.add_argument("path", type=existing, metavar="PATH", help="a model file, or a model's folder")
    path = parser.parse_args(words).path
    try:
        show(digest_of(path))
    except DigestError as error:
        refuse("digest", f"{path}: {error}")
    except OSError as error:
        refuse("digest", f"{error.filename or path}: {error.strerror}")
    return 0
