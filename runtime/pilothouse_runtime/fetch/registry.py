"""A registry of images, by the OCI Distribution Specification 1.1: manifests, blobs, and who may have them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from pilothouse_runtime.digests import file_sha256
from pilothouse_runtime.engine.download import RetryableError, bare, in_words, persist
from pilothouse_runtime.fetch.job import SECRET_FIELD, Job
from pilothouse_runtime.fetch.web import basic

DOCKER_CONFIG: Final = ".dockerconfigjson"  # the key of a Secret of type kubernetes.io/dockerconfigjson
PLAIN_HTTP: Final = "OCI_PLAIN_HTTP"
_REFERENCE: Final = re.compile(
    r"oci://(?P<host>[^/]+)/(?P<name>[a-z0-9][a-z0-9._/-]*?)(:(?P<tag>\w[\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_MOST_BYTES: Final = 4 * 1024 * 1024  # of a manifest, as the specification has it
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Reference:
    """Host, repository, and a tag or digest."""

    host: str
    name: str
    tag: str


def parse_reference(job: Job) -> Reference:
    """Return what an oci:// uri names. Raises LoadError."""
    parts = _REFERENCE.fullmatch(job.uri)
    if parts is None:
        raise job.refuse(
            "oci:// takes a registry, a repository and a tag, as in oci://ghcr.io/example/digits:2"
        )
    host = "registry-1.docker.io" if parts["host"] == "docker.io" else parts["host"]
    return Reference(host, parts["name"], parts["digest"] or parts["tag"] or "latest")


class Registry:
    """One repository of a registry, asked in the name of whom the Secret names, if anybody."""

    def __init__(self, job: Job, reference: Reference) -> None:
        self._job = job
        self._reference = reference
        scheme = "http" if job.environ.get(PLAIN_HTTP) == "true" else "https"
        self._base = f"{scheme}://{reference.host}/v2/{reference.name}"
        timeout = urllib3.Timeout(connect=job.policy.connect_timeout, read=job.policy.read_timeout)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=urllib3.Retry(0, redirect=3))
        self._credentials = _credentials(job, urlsplit(job.uri).netloc)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; of an index, the one for this machine. Raises LoadError."""
        found = self._manifest(self._reference.tag)
        if found.get("mediaType") in _INDEXES or "manifests" in found:
            found = self._manifest(self._for_this_machine(found))
        if not isinstance(found.get("layers"), list):
            raise self._job.refuse("its manifest names no layers")
        return found

    def blob(self, descriptor: Mapping[str, Any], target: Path) -> None:
        """Download a blob into a file, and check its digest. Raises LoadError."""
        digest = str(descriptor.get("digest"))
        if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
            raise self._job.refuse(f"its manifest names a layer {digest[:80]!r}, which is no sha256 digest")
        url = f"{self._base}/blobs/{digest}"
        self._job.download(url, target, self._authorisation(url))
        if f"sha256:{file_sha256(target)}" != digest:
            raise self._job.refuse(f"layer {digest} came damaged", permanent=False)

    def _for_this_machine(self, index: Mapping[str, Any]) -> str:
        machine = _MACHINES.get(platform.machine(), platform.machine())
        entries = [e for e in index.get("manifests", ()) if isinstance(e, dict)]
        fitting = [e for e in entries if (e.get("platform") or {}).get("architecture") == machine]
        chosen = fitting or (entries if len(entries) == 1 else [])
        if not chosen:
            raise self._job.refuse(f"it is an index of {len(entries)} images, and none is for {machine}")
        return str(chosen[0].get("digest"))

    def _manifest(self, tag: str) -> dict[str, Any]:
        url = f"{self._base}/manifests/{tag}"
        self._job.say(f"asking {bare(url)}")
        body = persist(lambda: self._get(url), lambda: 0, self._job.uri, self._job.policy, self._job.say)
        if tag.startswith("sha256:") and hashlib.sha256(body).hexdigest() != tag.removeprefix("sha256:"):
            raise self._job.refuse("the registry sent another manifest than the one of this digest")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._job.refuse("what the registry sent is no manifest")
        return found

    def _get(self, url: str) -> bytes:
        headers = {"Accept": ", ".join((*_MANIFESTS, *_INDEXES)), **self._authorisation(url)}
        status, reason, body = self._ask(url, headers)
        if status == 200:
            return body
        told = f"the registry answered {status} {reason}".rstrip()
        if status >= 500 or status in (408, 429):
            raise RetryableError(told)
        who = "" if self._credentials else f"; {SECRET_FIELD} names no Secret with {DOCKER_CONFIG} for it"
        raise self._job.refuse(told + (who if status in (401, 403, 404) else ""))

    def _ask(self, url: str, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Return status, the words for it, and the body, of which no more than a manifest may have is read."""
        try:
            response = self._pool.request("GET", url, headers=dict(headers), preload_content=False)
            try:
                return response.status, response.reason or "", response.read(_MOST_BYTES)
            finally:
                response.close()
        except HTTPError as error:
            raise self._retryable(error) from None

    def _retryable(self, error: HTTPError) -> RetryableError:
        policy = self._job.policy
        return RetryableError(in_words(error, policy.connect_timeout, policy.read_timeout))

    def _authorisation(self, url: str) -> dict[str, str]:
        """Return the headers that the registry asks for, anew for each blob: tokens last for minutes only."""
        return persist(lambda: self._challenged(url), lambda: 0, bare(url), self._job.policy, self._job.say)

    def _challenged(self, url: str) -> dict[str, str]:
        try:
            response = self._pool.request("HEAD", url, redirect=False)
        except HTTPError as error:
            raise self._retryable(error) from None
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status != 401:
            return {}
        if challenge.lower().startswith("basic"):
            return dict(self._credentials)
        asked = dict(_CHALLENGE.findall(challenge))
        realm = asked.get("realm", "")
        if urlsplit(realm).scheme != "https" and not self._base.startswith("http:"):
            raise self._job.refuse("the registry wants authorisation in a way that is not known here")
        query = {"scope": f"repository:{self._reference.name}:pull"}
        query |= {key: asked[key] for key in ("service",) if key in asked}
        status, _, body = self._ask(f"{realm}?{urlencode(query)}", self._credentials)
        if status != 200:
            told = f"the registry's token service answered {status}; check {SECRET_FIELD}"
            raise self._job.refuse(told, permanent=status in (400, 401, 403))
        data = json.loads(body)
        return {"Authorization": f"Bearer {data.get('token') or data.get('access_token')}"}


def _credentials(job: Job, host: str) -> dict[str, str]:
    """Return the header for a registry by a Docker configuration, or {} where it has none for it."""
    text = job.environ.get(DOCKER_CONFIG, "")
    try:
        auths = json.loads(text)["auths"] if text else {}
        names = [host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/"]
        names += ["https://index.docker.io/v1/", "index.docker.io"] if host == "docker.io" else []
        found = next((auths[name] for name in names if name in auths), None)
        if found is None:
            return {}
        if "auth" in found:
            user, _, password = base64.b64decode(found["auth"]).decode().partition(":")
        else:
            user, password = found["username"], found["password"]
        return basic(user, password)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise job.refuse(
            f"{DOCKER_CONFIG} of the Secret in {SECRET_FIELD} is no Docker configuration"
        ) from None
