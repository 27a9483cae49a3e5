"""`python -m pilothouse` runs the operator."""

from pilothouse.app import main

main()
