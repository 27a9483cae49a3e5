#!/bin/sh
# Pins each peer at its newest version that installs together with our torch: NAME.txt from NAME.in, for all or for those named.
set -eu
cd "$(dirname "$0")/../../.."
[ $# -gt 0 ] || set -- mosec litserve kserve mlserver bentoml ray fastapi
for name; do
  out=dev/bench/peers/$name.txt
  .venv/bin/python -m piptools compile --quiet --upgrade --strip-extras --allow-unsafe --no-header --no-emit-index-url \
    --no-emit-find-links --no-emit-trusted-host --no-emit-options --annotation-style line --output-file "$out" "dev/bench/peers/$name.in"
  # A local version (torch's +cpu) is known to one index only.
  sed -i 's/+cpu//; s|dev/bench/peers/||' "$out"
done
