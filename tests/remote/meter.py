"""A TCP relay on loopback that counts what a client sends and receives."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

_LOOPBACK = "127.0.0.1"
_CHUNK = 1 << 18


@dataclass
class Meter:
    """Relays connections to a port, and counts their bytes, protocol overhead included.

    Used as a context manager, it listens inside the `with` block.

    Attributes:
      target: port that connections are relayed to.
      sent: bytes from the clients.
      received: bytes to the clients.
    """

    target: int
    sent: int = 0
    received: int = 0

    def __enter__(self) -> Meter:
        self._lock = threading.Lock()
        self._listener = socket.create_server((_LOOPBACK, 0), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that accepts, which closing alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((_LOOPBACK, self.target))
            except OSError:
                client.close()
                continue
            for ends, outward in (((client, server), True), ((server, client), False)):
                threading.Thread(target=self._relay, args=(*ends, outward), daemon=True).start()

    def _relay(self, source: socket.socket, destination: socket.socket, outward: bool) -> None:
        try:
            while data := source.recv(_CHUNK):
                with self._lock:
                    if outward:
                        self.sent += len(data)
                    else:
                        self.received += len(data)
                destination.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, destination):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
