"""What the operator is told through its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pilothouse.api import quantities
from pilothouse.plan.fetching import NO_CACHE, Cache

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123 label, as Kubernetes wants it
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class ConfigError(Exception):
    """The environment is wrong; the message names each variable that is, and the rule it breaks."""


@dataclass(frozen=True)
class Config:
    """The operator's configuration.

    Attributes:
        runtime_image: image of runtime pods where a spec names none.
        tensorflow_image: the same for models of the format tensorflow; empty for `runtime_image`.
        compile_image: the same for models with runtime.optimize: compile; empty for `runtime_image`.
        namespaces: what to watch; empty means the whole cluster.
        lease_namespace: where the Lease is that decides who leads.
        log_level: a level's name as `logging` has it.
        http_port: port of probes and metrics; 0 takes a free one.
        prometheus_url: base URL of the Prometheus that analyses may ask; empty where there is none. It is told here
            and in no spec: whoever writes one must not make the operator send requests wherever he likes.
        cache: where pods share the models that they fetch.
    """

    runtime_image: str
    namespaces: tuple[str, ...]
    lease_namespace: str
    log_level: str
    http_port: int
    prometheus_url: str = ""
    tensorflow_image: str = ""
    compile_image: str = ""
    cache: Cache = NO_CACHE

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """Read the configuration.

        Raises:
            ConfigError: at least one variable is wrong.
        """
        problems: list[str] = []

        def check(good: bool, variable: str, rule: str) -> None:
            if not good:
                problems.append(f"{variable}={env.get(variable, '')!r}: {rule}")

        image = env.get("PILOTHOUSE_RUNTIME_IMAGE", "").strip()
        check(bool(image), "PILOTHOUSE_RUNTIME_IMAGE", "must be the image of runtime pods")
        namespaces = tuple(
            dict.fromkeys(filter(None, map(str.strip, env.get("PILOTHOUSE_NAMESPACES", "").split(","))))
        )
        wrong = [name for name in namespaces if not _NAMESPACE.fullmatch(name)]
        check(
            not wrong, "PILOTHOUSE_NAMESPACES", f"must list namespaces, separated by commas; not one: {wrong}"
        )
        lease_namespace = env.get("PILOTHOUSE_LEASE_NAMESPACE") or _own_namespace()
        check(
            _NAMESPACE.fullmatch(lease_namespace) is not None,
            "PILOTHOUSE_LEASE_NAMESPACE",
            "must be a namespace; outside of a pod it must be set",
        )
        log_level = env.get("PILOTHOUSE_LOG_LEVEL", "info").upper()
        check(log_level in _LEVELS, "PILOTHOUSE_LOG_LEVEL", f"must be one of {', '.join(_LEVELS).lower()}")
        port = env.get("PILOTHOUSE_HTTP_PORT", "8081")
        is_port = port.isascii() and port.isdigit() and int(port) <= 65535
        check(is_port, "PILOTHOUSE_HTTP_PORT", "must be a port number, 0 to 65535")
        prometheus = env.get("PILOTHOUSE_PROMETHEUS_URL", "").strip().rstrip("/")
        if prometheus and not _is_plain_url(prometheus):
            # Not shown: what is wrong with it may be that it holds a password.
            rule = "must be an http or https URL without credentials, query or fragment"
            problems.append(f"PILOTHOUSE_PROMETHEUS_URL: {rule}")
        cache = Cache(
            host_path=env.get("PILOTHOUSE_CACHE_HOST_PATH", ""),
            claim=env.get("PILOTHOUSE_CACHE_CLAIM", ""),
            most_bytes=_bytes(env.get("PILOTHOUSE_CACHE_SIZE", "0")),
        )
        check(cache.most_bytes >= 0, "PILOTHOUSE_CACHE_SIZE", "must be a quantity of bytes, such as 100Gi")
        is_path = cache.host_path.startswith("/") and ".." not in cache.host_path.split("/")
        check(not cache.host_path or is_path, "PILOTHOUSE_CACHE_HOST_PATH", "must be an absolute path")
        is_one = not (cache.host_path and cache.claim)
        check(is_one, "PILOTHOUSE_CACHE_CLAIM", "must be empty where PILOTHOUSE_CACHE_HOST_PATH is set")
        if problems:
            raise ConfigError("; ".join(problems))
        return cls(
            runtime_image=image,
            namespaces=namespaces,
            lease_namespace=lease_namespace,
            log_level=log_level,
            http_port=int(port),
            prometheus_url=prometheus,
            tensorflow_image=env.get("PILOTHOUSE_RUNTIME_TENSORFLOW_IMAGE", "").strip(),
            compile_image=env.get("PILOTHOUSE_RUNTIME_COMPILE_IMAGE", "").strip(),
            cache=cache,
        )


def _bytes(text: str) -> int:
    """Return the bytes of a quantity such as 100Gi, or -1 where it is none."""
    try:
        return int(quantities.amount(text or "0"))
    except ValueError:
        return -1


def _is_plain_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number, or an address in wrong brackets
        return False
    return whole and not any(mark in text for mark in "@?# \t\n\\")


def _own_namespace() -> str:
    try:
        return _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
