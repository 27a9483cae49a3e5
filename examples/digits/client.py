"""Sends held-out digits to a served model and says how many it got right.

    python client.py http://digits.default.svc digits digits-test.npz            one round over all digits
    python client.py http://digits.default.svc digits digits-test.npz --follow   round after round, until SIGTERM

Speaks the Open Inference Protocol v2 (JSON over HTTP) with nothing but numpy and the standard library. Nothing is
sent twice: a request that fails is counted as failed.
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


@dataclass
class Tally:
    """What came of the requests: rows by model version, right ones by version, and failures by what went wrong."""

    requests: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, version: str, rows: int, right: int) -> None:
        with self.lock:
            self.requests += 1
            self.rows[version] += rows
            self.right[version] += right

    def failed(self, why: str) -> None:
        with self.lock:
            self.requests += 1
            self.failures[why] += 1

    def summary(self) -> dict[str, Any]:
        """Return the tally as JSON: requests, failed, failures by cause, and rows and accuracy by version."""
        with self.lock:
            versions = {
                version: {"rows": rows, "accuracy": round(self.right[version] / rows, 4)}
                for version, rows in sorted(self.rows.items())
            }
            failed = sum(self.failures.values())
            return {
                "requests": self.requests,
                "failed": failed,
                "failures": dict(self.failures),
                "versions": versions,
            }


class Client:
    """One connection, kept open for as long as the server wants it."""

    def __init__(self, url: str, model: str) -> None:
        self._address = urlsplit(url)
        self._path = f"/v2/models/{model}/infer"
        self._connection: http.client.HTTPConnection | None = None

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, str]:
        """Return the class of each row (n, 64) and the version of the model that said so.

        Raises:
            OSError, http.client.HTTPException: the connection failed.
            ValueError: the server answered with an error, or with something else than classes.
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
            self._connection = None
            raise
        if status != 200:
            raise ValueError(f"HTTP {status}: {text[:200]}")
        answer = json.loads(text)
        output = answer["outputs"][0]
        logits = np.asarray(output["data"], dtype=np.float32).reshape(output["shape"])
        return logits.argmax(axis=1), str(answer.get("model_version", "?"))

    def _post(self, body: str) -> tuple[int, str]:
        if self._connection is None:
            host, port = self._address.hostname or "localhost", self._address.port or 80
            self._connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        if response.will_close:
            self._connection.close()
            self._connection = None
        return response.status, text


def send(client: Client, tally: Tally, images: np.ndarray, labels: np.ndarray) -> None:
    """Send one request and count what comes of it."""
    try:
        classes, version = client.predict(images)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        tally.failed(f"{type(error).__name__}: {error}"[:200])
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
        "--pause",
        type=float,
        default=0.02,
        help="seconds between requests, with --follow (default: %(default)s)",
    )
    args = parser.parse_args()
    data = np.load(args.data, allow_pickle=False)
    images, labels = data["inputs"].astype(np.float32), data["labels"]
    tally = Tally()
    if args.follow:
        follow(lambda: Client(args.url, args.model), tally, images, labels, args)
    else:
        client = Client(args.url, args.model)
        for start in range(0, len(labels), args.batch):
            send(client, tally, images[start : start + args.batch], labels[start : start + args.batch])
    print(json.dumps(tally.summary()), flush=True)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
