#!/bin/sh
# Writes requirements/*.txt from pyproject.toml.
set -eu
cd "$(dirname "$0")/.."
compile() {
  out=requirements/$1.txt
  shift
  .venv/bin/python -m piptools compile --quiet --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links \
    --no-emit-options --output-file "$out" "$@" pyproject.toml
  # A local version (torch's +cpu) is known to one index only. The project, which an extra of its own names, is not pinned.
  sed -i -e 's/+cpu//' -e '/^pilothouse @ /,+1d' "$out"
}
compile operator --extra operator
compile runtime --extra runtime
compile runtime-tensorflow --extra tensorflow
compile dev --extra operator --extra runtime --extra dev
