"""The operator's and the runtime's image, built on this machine without a daemon or a registry; see docs/images.md."""

from dev.images.build import Image, build
from dev.images.deliver import ensure, reference
from dev.images.errors import ImageError

__all__ = ["Image", "ImageError", "build", "ensure", "reference"]
