"""Shows a ModelDeployment's line of `kubectl get` whenever it changes, while other things go on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence


class Watch:
    """Runs `kubectl get --watch` in the background and prints each new line once."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._print, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def _print(self) -> None:
        last = ""
        for line in self._process.stdout or ():
            # The age changes all the time and says nothing here.
            text = line.rstrip().rpartition(" ")[0].rstrip()
            if text != last:
                print(f"    {time.monotonic() - self._began:5.1f} s  {text}")
                sys.stdout.flush()
                last = text
