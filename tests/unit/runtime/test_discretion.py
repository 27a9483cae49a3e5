"""What is taken out of texts before anybody reads them."""

from __future__ import annotations

import base64
import json
import logging

import pytest

from pilothouse_runtime.discretion import Discretion

ACCOUNT = {
    "type": "service_account",
    "private_key": "-----BEGIN-----\nplantedplanted\nplanted2\n-----END-----\n",
}
AUTH = base64.b64encode(b"fetcher:planted-pass").decode()


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "planted"}, "bad key planted"),
        ({"HF_TOKEN": "planted\n"}, "Bearer planted"),
        ({"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(ACCOUNT)}, "cannot read plantedplanted"),
        ({".dockerconfigjson": json.dumps({"auths": {"r": {"auth": AUTH}}})}, f"Basic {AUTH}"),
        ({".dockerconfigjson": json.dumps({"auths": {"r": {"auth": AUTH}}})}, "password planted-pass"),
        ({".dockerconfigjson": json.dumps({"auths": {"r": {"password": "planted"}}})}, "password planted"),
        ({"AZURE_STORAGE_SAS_TOKEN": "?sv=1&sig=planted%2Bsig%3D"}, "signed planted+sig="),
        ({"AZURE_STORAGE_SAS_TOKEN": "sig=planted%2Bsig%3D&sv=1"}, "GET /c/b?sv=1&sig=planted%2Bsig%3D"),
        ({}, "GET https://host/a/b.pt?sig=planted in 3 ms"),
        ({}, 'asked "az://c/b?se=1&sig=planted"'),
    ],
)
def test_secrets_are_not_told(environ: dict[str, str], text: str) -> None:
    assert "planted" in text or AUTH in text
    told = Discretion(environ)(text)
    assert "planted" not in told
    assert AUTH not in told


def test_what_is_no_secret_is_told_as_it_is() -> None:
    text = "s3://models/digits/2.pt: the store answered 403 Forbidden; 1.2 of 4.0 GB? Yes."
    assert Discretion({"AWS_REGION": "digits", "PATH": "/usr/bin", "A_KEY": "4.0"})(text) == text


def test_log_lines_and_traces_are_made_tellable() -> None:
    record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "%s failed", ("planted",), None)
    with pytest.raises(ValueError, match="planted") as caught:
        int("planted")
    record.exc_info = (caught.type, caught.value, caught.tb)
    assert Discretion({"X_TOKEN": "planted"}).filter(record)
    told = record.getMessage()
    assert "planted" not in told
    assert "ValueError: invalid literal for int() with base 10: '***'" in told
    assert record.exc_info is None
