"""Sends held-out digits to a served model and says how many it got right.

    python client.py http://digits.default.svc digits digits-test.npz            one round over all digits
    python client.py http://digits.default.svc digits digits-test.npz --follow   round after round, until SIGTERM

Speaks the Open Inference Protocol v2 (JSON over HTTP) with nothing but numpy and the standard library. Nothing is
sent twice: a request that fails is counted as failed, apart by the HTTP status where there was an answer.

It begins as soon as the server says that it is ready, or after some seconds at the latest: a new Service is told to the
nodes of a cluster last of all, a second or so after the pods behind it are ready (kube-proxy gathers changes).

A Kubernetes Service chooses a pod for each connection, not for each request. With `--renew 1` each request takes its
part in a canary rollout; with connections that stay open, some stay with the pod that they have.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

_TIMEOUT_SECONDS = 30
_ARRIVAL_SECONDS = 10


class RefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


@dataclass
class Tally:
    """What came of the requests: answers by HTTP status, rows (and right ones) by model version, failures by cause."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, version: str, rows: int, right: int) -> None:
        with self.lock:
            self.requests += 1
            self.statuses[200] += 1
            self.rows[version] += rows
            self.right[version] += right

    def failed(self, error: Exception) -> None:
        with self.lock:
            self.requests += 1
            if isinstance(error, RefusedError):
                self.statuses[error.status] += 1
            self.failures[f"{type(error).__name__}: {error}"[:200]] += 1

    def summary(self) -> dict[str, Any]:
        """Return the tally so far as JSON; `at` is the time, in seconds since 1970."""
        with self.lock:
            versions = {
                version: {"rows": rows, "accuracy": round(self.right[version] / rows, 4)}
                for version, rows in sorted(self.rows.items())
            }
            failed = sum(self.failures.values())
            return {
                "at": round(time.time(), 2),
                "requests": self.requests,
                "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
                "failed": failed,
                "failures": dict(self.failures),
                "versions": versions,
            }


class Client:
    """One connection, used for `renew` requests, or for 0 kept open for as long as the server wants it."""

    def __init__(self, url: str, model: str, renew: int = 0) -> None:
        self._address = urlsplit(url)
        self._path = f"/v2/models/{model}/infer"
        self._renew = renew
        self._used = 0
        self._connection: http.client.HTTPConnection | None = None

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, str]:
        """Return the class of each row (n, 64) and the version of the model that said so.

        Raises:
            OSError, http.client.HTTPException: the connection failed.
            RefusedError: the server answered with an error.
            ValueError, KeyError: the server answered with something else than classes.
        """
        tensor = {
            "name": "image",
            "datatype": "FP32",
            "shape": list(rows.shape),
            "data": rows.ravel().tolist(),
        }
        try:
            status, text = self._post(json.dumps({"inputs": [tensor]}))
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if status != 200:
            raise RefusedError(status, text)
        answer = json.loads(text)
        output = answer["outputs"][0]
        logits = np.asarray(output["data"], dtype=np.float32).reshape(output["shape"])
        return logits.argmax(axis=1), str(answer.get("model_version", "?"))

    def close(self) -> None:
        """End the connection; a later request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: str) -> tuple[int, str]:
        if self._connection is None:
            host, port = self._address.hostname or "localhost", self._address.port or 80
            self._connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
            self._used = 0
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        self._used += 1
        if response.will_close or self._used == self._renew:
            self.close()
        return response.status, text


def arrive(url: str) -> None:
    """Wait until the server at `url` says that it is ready; what it says after that counts, whatever it is."""
    address = urlsplit(url)
    end = time.monotonic() + _ARRIVAL_SECONDS
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(
            address.hostname or "localhost", address.port or 80, timeout=1
        )
        try:
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)


def send(client: Client, tally: Tally, images: np.ndarray, labels: np.ndarray) -> None:
    """Send one request and count what comes of it."""
    try:
        classes, version = client.predict(images)
    except (OSError, http.client.HTTPException, RefusedError, ValueError, KeyError) as error:
        tally.failed(error)
    else:
        tally.answered(version, len(labels), int((classes == labels).sum()))


def follow(make: Any, tally: Tally, images: np.ndarray, labels: np.ndarray, args: argparse.Namespace) -> None:
    """Send request after request from `--connections` threads until SIGTERM, and print the tally every second."""
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())

    def work(first: int) -> None:
        client = make()
        at = first
        while not stop.is_set():
            chunk = slice(at, at + args.batch)
            send(client, tally, images[chunk], labels[chunk])
            at = (at + args.batch) % len(labels)
            time.sleep(args.pause)
        client.close()

    starts = [i * args.batch % len(labels) for i in range(args.connections)]
    threads = [threading.Thread(target=work, args=(start,)) for start in starts]
    for thread in threads:
        thread.start()
    while not stop.wait(1):
        print(json.dumps(tally.summary()), flush=True)
    for thread in threads:
        thread.join()


def main() -> int:
    """Exit status 0: every request was answered."""
    parser = argparse.ArgumentParser(description="Send held-out digits to a served model.")
    parser.add_argument("url", help="where the model is served, such as http://digits.default.svc")
    parser.add_argument("model", help="the model's name")
    parser.add_argument("data", help="an npz file with `inputs` (n, 64) and `labels` (n,)")
    parser.add_argument("--follow", action="store_true", help="go on until SIGTERM")
    parser.add_argument("--batch", type=int, default=30, help="rows in a request (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=4, help="with --follow (default: %(default)s)")
    parser.add_argument(
        "--renew", type=int, default=0, help="requests in a connection; 0: as many as it lasts (default: 0)"
    )
    parser.add_argument(
        "--pause",
        type=float,
        default=0.02,
        help="seconds between requests, with --follow (default: %(default)s)",
    )
    args = parser.parse_args()
    data = np.load(args.data, allow_pickle=False)
    images, labels = data["inputs"].astype(np.float32), data["labels"]
    tally = Tally()
    arrive(args.url)
    if args.follow:
        follow(lambda: Client(args.url, args.model, args.renew), tally, images, labels, args)
    else:
        client = Client(args.url, args.model, args.renew)
        for start in range(0, len(labels), args.batch):
            send(client, tally, images[start : start + args.batch], labels[start : start + args.batch])
        client.close()
    print(json.dumps(tally.summary()), flush=True)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
