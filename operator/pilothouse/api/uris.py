"""Where a model may be: the uri of a model, its rules, who brings it, and how it is shown."""

from __future__ import annotations

from typing import Any, Final

from pilothouse.api.rules import Rule, matches

SCHEMES: Final = ("az", "file", "gs", "hf", "http", "https", "oci", "pvc", "s3")
URI_PATTERN: Final = rf"^({'|'.join(SCHEMES)})://[^ \t\r\n]+$"

_FILE = "^file:///[^/]"
_HTTP = "^https?://[^/?#]+/[^/?#]"
_OBJECT = "^(s3|gs|az)://[a-z0-9][-a-z0-9._]*/[^/]"
_HUB = "^hf://[-A-Za-z0-9._]+/[-A-Za-z0-9._]+(@[^/@]+)?(/.*)?$"
_OCI = "^oci://[-A-Za-z0-9.:]+/[a-z0-9][-a-z0-9._/]*(:[A-Za-z0-9_][-A-Za-z0-9._]*)?(@sha256:[0-9a-f]{64})?$"
_QUERY = "^(s3|gs|az|hf|oci)://.*[?#]"
_CREDENTIALS = "^https?://[^/?#]*@"
_PVC = "^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^/]"
_UPWARDS = "^(file|pvc|s3|gs|az|hf)://.*/[.][.](/|$)"


def _shape(schemes: str, pattern: str, message: str) -> Rule:
    """Return the rule that a uri whose scheme is one of those (a pattern) must match `pattern`."""

    def holds(self: Any) -> bool:
        return not matches(f"^({schemes})://", self.uri) or matches(pattern, self.uri)

    return Rule(
        "uri", message, holds, f"!self.uri.matches('^({schemes})://') || self.uri.matches('{pattern}')"
    )


def _never(pattern: str, message: str) -> Rule:
    """Return the rule that a uri must not match `pattern`."""

    def holds(self: Any) -> bool:
        return not matches(pattern, self.uri)

    return Rule("uri", message, holds, f"!self.uri.matches('{pattern}')")


URI_RULES: Final = (
    _shape("file", _FILE, "must be an absolute path in the runtime image, as in file:///models/digits.pt"),
    _shape("https?", _HTTP, "must name a host and a file, as in https://models.example.com/digits.pt"),
    _never(_CREDENTIALS, "must not hold a user or password: everybody who may read this object would see it"),
    _shape("pvc", _PVC, "must name a claim and a path on it, as in pvc://models/digits/2.pt"),
    _shape(
        "s3|gs|az",
        _OBJECT,
        "must name a bucket (container) and an object or folder, as in s3://models/digits/2.pt",
    ),
    _shape(
        "hf", _HUB, "must name owner and repository, as in hf://sentence-transformers/all-MiniLM-L6-v2@main"
    ),
    _shape("oci", _OCI, "must name a registry, a repository and a tag, as in oci://ghcr.io/example/digits:2"),
    _never(_QUERY, "must not hold ? or #: with this scheme they mean nothing; write %3F or %23 in a name"),
    _never(_UPWARDS, 'must not go upwards with ".."; write the path out'),
)

# What a uri names can be told from its spelling: http(s):// brings one file, stores and the hub a folder where it ends
# with /. On a claim, in the image and in a registry only a look tells.
_NAMES_A_FILE = "^https?://|^(s3|gs|az)://.*[^/]$|^hf://[^/]+/[^/]+/.*[^/]$"
_NAMES_A_FOLDER = "^(s3|gs|az)://.*/$|^hf://[^/]+/[^/]+$|^hf://.*/$"

DATA_RULES: Final = (
    *URI_RULES,
    _never(_NAMES_A_FOLDER, "names a folder; a data set is one file: name the .npz file in it"),
)


def names_a_file(uri: str) -> bool:
    """Whether a uri can bring no folder, wherever it leads."""
    return matches(_NAMES_A_FILE, uri)


def names_a_file_in_cel(field: str) -> str:
    """Return the same in CEL, of a field that holds a uri."""
    return f"{field}.matches('{_NAMES_A_FILE}')"


def is_fetched(uri: str, *, with_secret: bool, to_cache: bool) -> bool:
    """Whether a pod's init container brings the model, and not the serving container, which gets no credentials.

    What a server on the open web gives to anybody, the serving container gets itself, unless pods share it in a cache.
    An address with a query may be signed, so it is kept from that container too.
    """
    scheme = uri.partition(":")[0]
    if scheme in ("http", "https"):
        return with_secret or to_cache or "?" in uri
    return scheme not in ("file", "pvc")


def redacted(uri: str) -> str:
    """Return a model's uri without what may be a secret in it: user, password, query and fragment."""
    bare = uri.split("?", 1)[0].split("#", 1)[0]
    scheme, mark, rest = bare.partition("://")
    host, slash, tail = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{tail}"
