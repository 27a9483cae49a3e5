"""`python -m pilothouse_runtime.fetch` brings one model."""

from pilothouse_runtime.fetch.program import main

main()
