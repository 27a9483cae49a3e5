"""Stores of objects, S3-compatible, Google's and Azure's: how one is reached, and what it means by its errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

STORES: Final[dict[str, Callable[..., ObjectStore]]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_SERVICE_ACCOUNT_KEY, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN, or AZURE_CLIENT_ID,"
    " AZURE_CLIENT_SECRET and AZURE_TENANT_ID",
}
# Addresses of the store, in the environment; with http:// in them they ask for what is refused otherwise.
_ENDPOINTS: Final = re.compile("^(AWS|GOOGLE|AZURE)_.*(ENDPOINT|URL)")
_METADATA: Final = ("169.254.169.254", "metadata.google.internal", "metadata/identity")  # of cloud machines
_STATUS: Final = re.compile(r"status code: (\d{3}[^:\n]*)")
# What was said: that a signature has expired, before what else is said of it; and by Microsoft's sign-in.
_MESSAGES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r">(Signature not valid in the specified time frame[^<\n]{0,200})",
        r"<Message>([^<\n]{1,300})",
        r"(AADSTS\d+: [^.\"\\\n]{1,200})",
    )
)
_SIGN_IN: Final = "token request"


class StoreSettingError(Exception):
    """The environment holds something that no store can be made of."""


def make_store(
    scheme: str, bucket: str, environ: Mapping[str, str], client: Mapping[str, Any], retry: Mapping[str, Any]
) -> ObjectStore:
    """Return the store of a bucket (container); it is not asked yet.

    Args:
        scheme: s3, gs or az.
        environ: of this process, in which obstore finds credentials and addresses.
        client, retry: obstore's ClientConfig and RetryConfig.
    Raises:
        StoreSettingError: says which setting, and what the Secret needs.
    """
    plain = any(
        value.startswith("http://") for variable, value in environ.items() if _ENDPOINTS.match(variable)
    )
    options = {
        "allow_http": plain or environ.get("AZURE_STORAGE_USE_EMULATOR") == "true",
        "user_agent": "pilothouse-runtime",
        **client,
    }
    try:
        return STORES[scheme](bucket, client_options=options, retry_config=dict(retry))
    except (BaseError, ValueError) as error:
        raise StoreSettingError(f"{first_line(error)}; the Secret needs {CREDENTIALS[scheme]}") from None


@dataclass(frozen=True)
class Told:
    """What an error means; its own text goes on for pages, and may hold what nobody should read.

    Attributes:
        status: such as 403 Forbidden, or "" where the store did not answer.
        words: what the store answered, or else what went wrong.
        unknown: there are no credentials to ask with.
        denied: who asks may not do that, or is not known.
    """

    status: str
    words: str
    unknown: bool
    denied: bool


def told_by(error: Exception) -> Told:
    """Return what an error of obstore's means."""
    text = str(error)
    said = _STATUS.search(text)
    status = said.group(1).strip() if said else ""
    message = next(filter(None, (pattern.search(text) for pattern in _MESSAGES)), None)
    who = "sign-in" if _SIGN_IN in text else "store"
    words = f"the {who} answered {status}" + (f" ({message.group(1).strip()})" if message else "")
    unknown = any(name in text for name in _METADATA)
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if not status:
        words = "the store does not know who asks" if denied else first_line(error)
    return Told(status, words, unknown, denied or status[:3] in ("400", "401", "403"))


def first_line(error: Exception) -> str:
    """Return the part of an error of obstore's that says what went wrong."""
    line = str(error).strip().partition("\n")[0]
    # What was done, where and how often comes first; what went wrong stands after the last dash.
    return line.rpartition(" - ")[2] or type(error).__name__
