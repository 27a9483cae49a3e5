#!/bin/sh
# Makes .venv: a link to an environment that lives outside the checkout, keyed by the lock file and the
# Python that made it, so that a second checkout or a fresh clone finds it ready.
set -eu
cd "$(dirname "$0")/.."
lock=requirements/dev.txt
say() { printf '==> %s\n' "$*"; }

python=$(command -v python3.11 || command -v python3 || true)
if [ -z "$python" ] || ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" != 0 ]; then
    echo "error: python3 with the venv module is missing. Run: sudo apt-get install python3-venv" >&2
    exit 1
  fi
  say "apt-get install python3-venv"
  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null
  python=$(command -v python3)
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $python is older than Python 3.11; put a newer python3 on PATH" >&2
  exit 1
}

key=$({ cat "$lock"; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pilothouse
venv=$cache/venv/$key
if [ ! -e "$venv/.complete" ]; then
  say "making the Python environment $venv (a few minutes, once)"
  mkdir -p "$cache/venv"
  # Two checkouts may come here at once: the second waits, then finds it done.
  exec 9>"$cache/venv/$key.lock"
  flock 9
  if [ ! -e "$venv/.complete" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    # Every dependency is in the lock file; pip adds what PyPI's own build of torch needs for CUDA. For the smaller CPU
    # build set PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu first.
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check -r "$lock"
    touch "$venv/.complete"
  fi
fi
ln -sfn "$venv" .venv
