"""Who may read and write blobs: by the key of the account, a shared access signature (SAS), or a token for a secret.

How each is signed: Azure documentation, "Authorize with Shared Key", "Create an account SAS", "Create a service SAS".
How a secret is exchanged: Microsoft identity platform, "OAuth 2.0 client credentials flow".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

ACCOUNT: Final = "pilothouse"
ACCOUNT_KEY: Final = "plantedKeyOfTheAccount12"  # in base64, as all of them
OTHER_KEY: Final = "plantedButWrong+"
TENANT, CLIENT = "tenant-of-the-tests", "client-of-the-tests"
CLIENT_SECRET: Final = "planted~Secret/of=the+client"
_TOKEN: Final = "planted.access.token"  # what the secret is exchanged for
_VERSION: Final = "2022-11-02"
# What is signed after the method, in this order.
_HEADERS: Final = (
    *("Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date"),
    *("If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"),
)
# Of what a SAS says about itself, in the order in which it is signed; of a container, and of the whole account.
_OF_CONTAINER: Final = ("sp", "st", "se", "/", "si", "sip", "spr", "sv", "sr", "", "ses", *[""] * 5)
_OF_ACCOUNT: Final = ("@", "sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses", "")
_EXPIRED: Final = "Signature not valid in the specified time frame: Start [] - Expiry [{0}] - Current [{1}]"


def sas(container: str = "", *, may: str = "rl", hours: float = 1) -> str:
    """Return a SAS of a container, or of the account, for so many hours from now.

    Args:
        may: read (r), list (l), create (c), in this order.
    """
    ends = datetime.now(UTC) + timedelta(hours=hours)
    told = {"sv": _VERSION, "sp": may, "se": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}
    told |= {"sr": "c"} if container else {"ss": "b", "srt": "sco"}
    return urlencode(told | {"sig": _signature_of_sas(told, container)})


def forged(token: str) -> str:
    """Return a SAS with a signature that is not the account's."""
    return urlencode(dict(parse_qsl(token)) | {"sig": OTHER_KEY})


def signature_in(token: str) -> str:
    """Return a part of the signature of a SAS that is the same however it is written in a URL."""
    return max(re.findall("[A-Za-z0-9]+", dict(parse_qsl(token))["sig"]), key=len)


def refusal(method: str, path: str, headers: Mapping[str, str], container: str, permission: str) -> str:
    """Return why who sends a request with these headers may not do that; "" where they may.

    Args:
        permission: what it takes, as in `sas`.
    """
    query = dict(parse_qsl(urlsplit(path).query))
    given = headers.get("Authorization", "")
    if "sig" in query:
        return _refusal_of_sas(query, container, permission)
    if given in (_shared_key(method, path, headers), f"Bearer {_TOKEN}"):
        return ""
    return "not signed by the key of the account"


def token_for(form: Mapping[str, str]) -> tuple[int, str]:
    """Return status and body of the answer to who asks for a token."""
    asked = {name: form.get(name) for name in ("grant_type", "client_id", "scope")}
    if asked != {
        "grant_type": "client_credentials",
        "client_id": CLIENT,
        "scope": "https://storage.azure.com/.default",
    }:
        return 400, json.dumps({"error": "invalid_request", "error_description": f"AADSTS900144: {asked}"})
    if form.get("client_secret") != CLIENT_SECRET:
        told = "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the value, not the ID."
        return 401, json.dumps({"error": "invalid_client", "error_description": told})
    return 200, json.dumps({"token_type": "Bearer", "expires_in": 3599, "access_token": _TOKEN})


def _refusal_of_sas(query: Mapping[str, str], container: str, permission: str) -> str:
    of = container if query.get("sr") == "c" else ""
    if not hmac.compare_digest(query["sig"], _signature_of_sas(query, of)):
        return "Signature did not match."
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if query["se"] <= now:
        return _EXPIRED.format(query["se"], now)
    return "" if permission in query["sp"] else "This request is not authorized to perform this operation."


def _signature_of_sas(query: Mapping[str, str], container: str) -> str:
    fixed = {"@": ACCOUNT, "/": f"/blob/{ACCOUNT}/{container}"}
    order = _OF_CONTAINER if container else _OF_ACCOUNT
    return _signed("\n".join(fixed.get(name) or query.get(name, "") for name in order))


def _shared_key(method: str, path: str, headers: Mapping[str, str]) -> str:
    """Return how a request that has these headers is signed with the account's key."""
    parts = urlsplit(path)
    own = sorted((name.lower(), value) for name, value in headers.items() if name.lower().startswith("x-ms-"))
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    signed = {name: headers.get(name, "") for name in _HEADERS}
    if signed["Content-Length"] == "0":
        signed["Content-Length"] = ""
    lines = [
        method,
        *signed.values(),
        *(f"{name}:{value}" for name, value in own),
        f"/{ACCOUNT}{parts.path}",
        *(f"{name}:{value}" for name, value in query),
    ]
    return f"SharedKey {ACCOUNT}:{_signed(chr(10).join(lines))}"


def _signed(text: str) -> str:
    signature = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256)
    return base64.b64encode(signature).decode()
