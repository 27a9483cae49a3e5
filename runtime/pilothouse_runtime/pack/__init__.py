"""Makes a servable folder from a trained model, in the process that trained it or from the command line."""

from pilothouse_runtime.core.errors import PackError
from pilothouse_runtime.pack.packing import Packed, pack

__all__ = ["PackError", "Packed", "pack"]
