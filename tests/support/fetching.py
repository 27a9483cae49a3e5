"""The fetch program as real processes, and real servers for it: an S3-compatible store and a registry of images."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, Final

import httpx

from dev.cluster import binaries, debian
from pilothouse_runtime import contract
from pilothouse_runtime.contract import LastWords, PodReport
from pilothouse_runtime.engine.fetched import Record, read_record
from tests.support.runtime_process import PATIENCE, ROOT, eventually

KEY_ID, SECRET = "AKIDEXAMPLE", "planted-key-of-the-store"
USER, PASSWORD = "fetcher", "planted-password"
# Of that password, by crypt(3) with bcrypt: the one way in which the registry reads passwords.
_HTPASSWD: Final = "fetcher:$2b$05$abcdefghijklmnopqrstuuXXXUKy4cODBo6oD0fJZB1CSpIzxX0SW\n"


class Fetch:
    """One fetch: while it runs, and what it has left.

    Attributes:
        mount: the folder that the model is brought to.
        lines: of its log.
    """

    def __init__(self, folder: Path, uri: str, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.mount = folder / "mount"
        self.mount.mkdir(exist_ok=True)
        self.lines: list[dict[str, Any]] = []
        self.text = ""
        self._log = folder / "termination-log"
        self._port = 0
        self._listening = threading.Event()
        _, *module = contract.FETCH_COMMAND
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [
                *(sys.executable, *module, "--host", "127.0.0.1", "--port", "0"),
                *("--model-mount", str(self.mount), "--termination-log", str(self._log)),
            ],
            env=kept | {"PYTHONPATH": str(ROOT / "runtime"), contract.ENV_FETCH_URI: uri, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.text += line
            self.lines.append(json.loads(line))  # every line it writes is JSON
            if self.lines[-1]["msg"] == "listening":
                self._port = self.lines[-1]["port"]
                self._listening.set()

    def report(self) -> PodReport | None:
        """Return what it says of itself to who asks, or None where it is over."""
        assert self._listening.wait(PATIENCE)
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}{contract.READY_PATH}", timeout=PATIENCE)
        except httpx.TransportError:
            return None
        assert answer.status_code == 503, "a pod that fetches is not ready"
        return PodReport.decode(answer.content)

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        try:
            code = self.process.wait(timeout=PATIENCE)
            self._reader.join(timeout=PATIENCE)
        finally:
            self.kill()
        return code

    def kill(self) -> None:
        """End it as the kernel would."""
        self.process.kill()
        self.process.wait()
        self._reader.join(timeout=PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()

    @property
    def words(self) -> LastWords | None:
        """What it wrote to its termination log, if anything."""
        return LastWords.decode(self._log.read_text()) if self._log.exists() else None

    @property
    def told(self) -> str:
        """Everything that it told anybody."""
        return self.text + (self._log.read_text() if self._log.exists() else "")

    @property
    def record(self) -> Record | None:
        """What it says that it has brought."""
        return read_record(self.mount)

    @property
    def path(self) -> Path:
        """The file or folder that it has brought."""
        assert self.record is not None, self.text
        return self.mount / self.record.path


def fetch(folder: Path, uri: str, **environment: str) -> Fetch:
    """Run a fetch to its end; `environment` holds credentials, and variables of `contract` by their whole names."""
    running = Fetch(folder, uri, environment)
    running.wait()
    return running


def free_port(host: str) -> int:
    """Return a port that nobody listens on, and that the kernel gives nobody who asks for any.

    From among those that it gives, another test's server or client might have it before it is used.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind((host, port))
            return port


def left(mount: Path) -> list[str]:
    """Return what lies below a folder, as sorted paths."""
    return sorted(str(path.relative_to(mount)) for path in mount.rglob("*"))


@dataclass(frozen=True)
class ObjectStore:
    """A running S3-compatible store: its address, the folder with its buckets, and its log."""

    url: str
    root: Path
    log: Path
    scheme: str = "s3"
    key: str = SECRET

    def gets(self, name: str) -> int:
        """Return how many requests for an object there were; the name is bucket and key."""
        bucket, _, key = name.partition("/")
        line = f"GET OBJECT Bucket: {bucket} Object: {key}\n"
        return self.log.read_text().count(line)

    @property
    def secret(self) -> dict[str, str]:
        """What a Secret with the credentials holds."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
        }

    @property
    def wrong(self) -> dict[str, str]:
        """The same with another key."""
        return self.secret | {"AWS_SECRET_ACCESS_KEY": "planted-but-wrong"}


@contextlib.contextmanager
def object_store(root: Path, log: Path, host: str = "127.0.0.1") -> Iterator[ObjectStore]:
    """Serve the folders in `root` as buckets over S3, with rclone, to who knows the key."""
    program = Path(sys.executable).with_name("rclone")
    address = f"{host}:{free_port(host)}"
    command = [program, "serve", "s3", "-vv", "--log-file", log, "--auth-key", f"{KEY_ID},{SECRET}"]
    with serving([*map(str, command), "--addr", address, str(root)], f"http://{address}", {}):
        yield ObjectStore(f"http://{address}", root, log)


def registry_program() -> Path:
    """Debian's registry of images, unpacked into the cache and not installed."""
    folder = binaries.cached().debian.parents[1] / "docker-registry" / debian.SUITE
    folder.parent.mkdir(parents=True, exist_ok=True)

    def unpack(work: Path) -> None:
        archive = debian.Archive(work)
        archive.update()
        archive.unpack(["docker-registry"], work / "result")

    with (folder.parent / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        binaries.make(folder, unpack)
    return folder / "usr/bin/docker-registry"


class ImageRegistry:
    """A running registry, and what is pushed to it. `config` is a Docker configuration with its credentials."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.config = json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}})

    def push(self, name: str, tag: str, manifest: Mapping[str, Any], *blobs: bytes) -> str:
        """Push a manifest and the blobs that it names; return the manifest's digest."""
        for blob in blobs:
            place = self._call("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
            mark = "&" if "?" in place else "?"
            self._call(
                "PUT", f"{place}{mark}digest={digest_of_bytes(blob)}", blob, "application/octet-stream"
            )
        body = json.dumps(manifest).encode()
        self._call("PUT", f"/v2/{name}/manifests/{tag}", body, manifest["mediaType"])
        return digest_of_bytes(body)

    def _call(self, method: str, path: str, body: bytes = b"", kind: str = "") -> httpx.Response:
        url = path if path.startswith("http") else f"http://{self.host}{path}"
        headers = {"Content-Type": kind} if kind else {}
        answer = httpx.request(method, url, content=body, headers=headers, auth=(USER, PASSWORD))
        assert answer.is_success, (url, answer.text)
        return answer


@contextlib.contextmanager
def image_registry(program: Path, folder: Path) -> Iterator[ImageRegistry]:
    """Run a registry that wants a password."""
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    (folder / "htpasswd").write_text(_HTPASSWD)
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{address}'}}\nauth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
    )
    with serving([str(program), "serve", str(folder / "config.yml")], f"http://{address}/v2/", {}):
        yield ImageRegistry(address)


def digest_of_bytes(data: bytes) -> str:
    """Return how manifests name a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextlib.contextmanager
def serving(command: list[str], url: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a server until the block ends; it is waited for until it answers, whatever it answers."""
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            eventually(lambda: process.poll() is not None or _answers(url), f"an answer of {command[0]}")
            assert process.poll() is None, f"{command} ended"
            yield
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=5)
    except httpx.TransportError:
        return False
    return True
