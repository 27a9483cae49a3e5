"""Records real rollouts and draws them, for docs/rollouts.md; see `python -m dev.rollouts --help`."""
