"""What can go wrong outside, sorted by what to do about it. Only `kube/` turns HTTP into these."""


class PilothouseError(Exception):
    """Base of everything the loop knows how to handle."""


class BlockedError(PilothouseError):
    """Something that a person or the cluster must change first: look again later.

    `reason` is a condition reason, the message says what is in the way and what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TransientError(PilothouseError):
    """The API server is away, overloaded or slow: back off and try again."""


class ConflictError(PilothouseError):
    """The object changed under our feet: look again now."""


class GoneError(PilothouseError):
    """The object (or its namespace) is gone or being deleted: look again now, there may be nothing left to do."""
