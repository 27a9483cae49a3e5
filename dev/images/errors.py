"""The one error that image building raises on purpose."""


class ImageError(RuntimeError):
    """Something a person can act on: the message says what failed, where, and what to do."""
