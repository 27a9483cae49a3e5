"""Sends rows of 64 numbers to a model and says twice a second which versions answered: runs in a pod.

    python load.py http://10.0.0.7 digits

Each request opens a connection of its own: behind a plain Service it is connections that are spread over pods.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

_THREADS = 6
_PAUSE_SECONDS = 0.1
_EVERY_SECONDS = 0.5


def ask(host: str, port: int, model: str, number: int) -> str:
    """Send one request and return the version that answered.

    Raises:
        OSError, http.client.HTTPException, ValueError: it failed.
    """
    row = [float((number * 7 + place * 3) % 17) for place in range(64)]
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 64], "data": row}
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}), headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}")
        return str(json.loads(text)["model_version"])
    finally:
        connection.close()


def main() -> None:
    """Send requests until the pod is deleted, and print what came of them since the last line."""
    address, model = urlsplit(sys.argv[1]), sys.argv[2]
    host, port = address.hostname or "", address.port or 80
    versions: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    lock = threading.Lock()

    def work(first: int) -> None:
        number = first
        while True:
            try:
                version = ask(host, port, model, number)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                with lock:
                    failures[f"{type(error).__name__}: {error}"] += 1
            else:
                with lock:
                    versions[version] += 1
            number += _THREADS
            time.sleep(_PAUSE_SECONDS)

    for first in range(_THREADS):
        threading.Thread(target=work, args=(first,), daemon=True).start()
    while True:
        time.sleep(_EVERY_SECONDS)
        with lock:
            line = {"versions": dict(versions), "failures": dict(failures)}
            versions.clear()
            failures.clear()
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
