"""Files from web servers that want to know who asks: basic and bearer authorisation."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from pilothouse_runtime.fetch.job import Job

BEARER = "HTTP_BEARER_TOKEN"
USERNAME, PASSWORD = "HTTP_USERNAME", "HTTP_PASSWORD"


def fetch_web(job: Job, url: str) -> str:
    """Fetch the file at `url`, query and all, and return its content type. Raises LoadError."""
    name = unquote(urlsplit(url).path).rpartition("/")[2] or "model"
    return job.download(url, job.place(name), authorisation(job.environ))


def authorisation(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that say who asks; none where the environment holds no credentials."""
    if token := environ.get(BEARER, "").strip():
        return {"Authorization": f"Bearer {token}"}
    if USERNAME in environ or PASSWORD in environ:
        return basic(environ.get(USERNAME, ""), environ.get(PASSWORD, ""))
    return {}


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of basic authorisation."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
