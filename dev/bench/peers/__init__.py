"""One small server for each peer, run in the peer's own environment; NAME.in says what is in it, NAME.txt pins it.

The servers import packages that the project's environment lacks, so each begins with `mypy: ignore-errors`: mypy, which
runs in that environment, would take every name of theirs for a mistake. The rest of `dev.bench` is checked.
"""
