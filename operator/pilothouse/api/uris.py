"""Where a model file may be: the uri of a model, its rules, and how it is shown."""

from __future__ import annotations

from typing import Any, Final

from pilothouse.api.rules import Rule, matches

SCHEMES: Final = ("file", "http", "https", "pvc")
URI_PATTERN: Final = rf"^({'|'.join(SCHEMES)})://[^ \t\r\n]+$"

_FILE = "^file:///[^/]"
_HTTP = "^https?://[^/?#]+/[^/?#]"
_CREDENTIALS = "^https?://[^/?#]*@"
_PVC = "^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^/]"
_UPWARDS = "^(file|pvc)://.*/[.][.](/|$)"


def _shape(scheme: str, pattern: str, message: str) -> Rule:
    """Return the rule that a uri whose scheme begins so must match `pattern`."""

    def holds(self: Any) -> bool:
        return not self.uri.startswith(scheme) or matches(pattern, self.uri)

    return Rule("uri", message, holds, f"!self.uri.startsWith('{scheme}') || self.uri.matches('{pattern}')")


def _never(pattern: str, message: str) -> Rule:
    """Return the rule that a uri must not match `pattern`."""

    def holds(self: Any) -> bool:
        return not matches(pattern, self.uri)

    return Rule("uri", message, holds, f"!self.uri.matches('{pattern}')")


URI_RULES: Final = (
    _shape("file://", _FILE, "must be an absolute path in the runtime image, as in file:///models/digits.pt"),
    _shape("http", _HTTP, "must name a host and a file, as in https://models.example.com/digits.pt"),
    _never(_CREDENTIALS, "must not hold a user or password: everybody who may read this object would see it"),
    _shape("pvc://", _PVC, "must name a claim and a path on it, as in pvc://models/digits/2.pt"),
    _never(_UPWARDS, 'must not go upwards with ".."; write the path out'),
)


def redacted(uri: str) -> str:
    """Return a model's uri without what may be a secret in it: user, password, query and fragment."""
    bare = uri.split("?", 1)[0].split("#", 1)[0]
    scheme, mark, rest = bare.partition("://")
    host, slash, tail = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{tail}"
