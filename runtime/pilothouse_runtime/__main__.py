"""`python -m pilothouse_runtime` serves one model; with a command, see `pilothouse_runtime.cli`."""

from pilothouse_runtime.cli.program import main

main()
