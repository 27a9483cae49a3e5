"""`python -m pilothouse_runtime` serves one model."""

from pilothouse_runtime.app import main

main()
