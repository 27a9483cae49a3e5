"""Running other programs, with one log file for all they say."""

import subprocess
from pathlib import Path

from dev.images.errors import ImageError

_LOG_TAIL = 20


class Tools:
    """Runs programs and appends to the log file `log`."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def run(self, *command: str) -> None:
        """Run a program to its end.

        Raises:
            ImageError: it fails; the message holds the last it said.
        """
        with self.log.open("a+") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            began = log.tell()
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
            )
            log.seek(began)
            said = log.read()
        self._check(command, done.returncode, said)

    def read(self, *command: str) -> str:
        """Run a program to its end; returns its standard output.

        Raises:
            ImageError: it fails; the message holds the last it said.
        """
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        self._check(command, done.returncode, done.stderr)
        return done.stdout

    def _check(self, command: tuple[str, ...], status: int, said: str) -> None:
        if status != 0:
            tail = "\n".join(said.strip().splitlines()[-_LOG_TAIL:])
            raise ImageError(f"{' '.join(command[:2])} ended with status {status}:\n{tail}\n({self.log})")
