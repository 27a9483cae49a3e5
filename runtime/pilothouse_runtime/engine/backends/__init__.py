"""One module a model format, imported only when a model is of it: see `engine.registry`."""
