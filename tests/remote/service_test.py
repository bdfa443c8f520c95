"""Tests of processes that are started, awaited, stopped and killed, and of the byte counter."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from meter import Meter
from service import LOOPBACK, Service, ServiceError, free_port, serves

LISTEN = """
import socket, subprocess, sys
if "stubborn" in sys.argv:
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[2], "w").write(str(child.pid))
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    connection.sendall(connection.recv(100).upper())
    connection.close()
"""


def listener(folder: Path, *arguments: str) -> tuple[Service, int, Path]:
    """A service that answers in capitals and has a child, its port, and where the child's id is."""
    port, child = free_port(), folder / "child"
    command = [sys.executable, "-c", LISTEN, str(port), child, *arguments]
    return Service("listener", command, folder / "log", lambda: serves(port)), port, child


def is_gone(child: Path) -> bool:
    """Whether the process whose id a file holds is no more, or about to be reaped."""
    deadline = time.monotonic() + 10
    stat = Path("/proc") / child.read_text() / "stat"
    while time.monotonic() < deadline:
        if not stat.exists() or ") Z " in stat.read_text():
            return True
        time.sleep(0.05)
    return False


def ask(port: int, text: bytes) -> bytes:
    with socket.create_connection((LOOPBACK, port)) as connection:
        connection.sendall(text)
        return connection.recv(100)


def test_a_started_service_serves_and_a_stopped_one_does_not(tmp_path):
    service, port, child = listener(tmp_path)
    service.start()
    assert ask(port, b"hello") == b"HELLO"
    service.stop()
    assert not serves(port)
    assert is_gone(child)


def test_killing_ends_what_a_service_started(tmp_path):
    service, port, child = listener(tmp_path)
    service.start()
    service.kill()
    assert not serves(port)
    assert is_gone(child)


def test_a_killed_service_starts_again_on_its_port(tmp_path):
    service, port, _ = listener(tmp_path)
    service.start()
    service.kill()
    service.start()
    assert ask(port, b"again") == b"AGAIN"
    service.stop()


def test_stopping_twice_does_no_harm(tmp_path):
    service, _, _ = listener(tmp_path)
    service.stop()
    service.start()
    service.stop()
    service.stop()


def test_a_service_that_does_not_heed_the_signal_ends_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("service._STOP_SECONDS", 0.5)
    service, port, child = listener(tmp_path, "stubborn")
    service.start()
    service.stop()
    assert not serves(port)
    assert is_gone(child)


def test_a_service_that_ends_at_once_tells_what_it_said(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no such database')"]
    service = Service("database", command, tmp_path / "log", lambda: False)
    with pytest.raises(ServiceError, match=r"database does not start\.\n  \| no such database"):
        service.start()


def test_a_service_that_never_serves_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("service._START_SECONDS", 0.5)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    service = Service("sleeper", command, tmp_path / "log", lambda: False, signal.SIGINT)
    with pytest.raises(ServiceError, match="sleeper does not start"):
        service.start()


def test_a_free_port_can_be_listened_on():
    port = free_port()
    assert not serves(port)
    with socket.create_server((LOOPBACK, port)):
        assert serves(port)


def test_the_meter_counts_both_ways_and_changes_nothing(tmp_path):
    service, port, _ = listener(tmp_path)
    service.start()
    with Meter(port) as meter:
        for _ in range(3):
            assert ask(meter.port, b"twelve bytes") == b"TWELVE BYTES"
        assert (meter.sent, meter.received) == (36, 36)
        service.stop()
        try:
            answer = ask(meter.port, b"lost")
        except OSError:
            answer = b""
        assert answer == b""


def test_the_meter_relays_more_than_one_piece():
    blob = os.urandom(3_000_000)
    with socket.create_server((LOOPBACK, 0)) as server:

        def send() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.sendall(blob)
            connection.close()

        threading.Thread(target=send, daemon=True).start()
        with (
            Meter(server.getsockname()[1]) as meter,
            socket.create_connection((LOOPBACK, meter.port)) as connection,
        ):
            connection.sendall(b"?")
            received = b""
            while piece := connection.recv(1 << 16):
                received += piece
    assert received == blob
    assert meter.received == len(blob)
