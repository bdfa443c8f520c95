"""A server's process on the loopback interface: started, awaited, stopped or killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
_START_SECONDS = 60
_STOP_SECONDS = 10
_LAST_LINES = 15


class ServiceError(Exception):
    """A server that does not start."""


class Service:
    """A server's process, in a process group of its own.

    Args:
      name: what messages call it.
      command: how to start it.
      log: file that takes what it prints.
      ready: tells whether it serves.
      stop_signal: what makes it end.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        ready: Callable[[], bool],
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._command = [str(word) for word in command]
        self._log = log
        self._ready = ready
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server and waits until it serves; ServiceError tells what it said if not."""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
                raise ServiceError("\n  | ".join([f"{self.name} does not start.", *said]))
            time.sleep(0.1)

    def stop(self) -> None:
        """Asks the server to end, and makes it where it does not."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends the server and all that it started, as a crash or a power failure would."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at present."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def serves(port: int) -> bool:
    """Whether somebody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
