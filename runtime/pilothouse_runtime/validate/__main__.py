"""`python -m pilothouse_runtime.validate` validates one revision."""

from pilothouse_runtime.validate.program import main

main()
