"""The one error that the embedded cluster raises on purpose."""


class ClusterError(RuntimeError):
    """Something a person can act on: the message says what failed, where, and what to do."""
