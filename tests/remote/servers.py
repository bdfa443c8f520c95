"""Starts and stops the servers: an HTTP cache (nginx) and a remote executor (BuildGrid).

All listen on loopback, on ports that were free, and keep everything below one folder. BuildGrid's
server queues the actions in PostgreSQL; buildbox-worker takes them from there and runs each through
buildbox-run-hosttools, in a folder that buildbox-casd fills from BuildGrid's storage.
"""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import configurations
from install import Programs
from service import LOOPBACK, Service, ServiceError, free_port, serves

_NOBODY = 65534


class HttpCache:
    """nginx with WebDAV, which Bazel can read from and write to with GET and PUT.

    Used as a context manager, it runs inside the `with` block.
    """

    def __init__(self, programs: Programs, folder: Path) -> None:
        folder.mkdir()
        (folder / "cache").mkdir()
        self.port = free_port()
        self.blobs = folder / "cache/cas"
        self.results = folder / "cache/ac"
        configuration = folder / "nginx.conf"
        user = getpass.getuser() if os.geteuid() == 0 else ""
        configuration.write_text(configurations.nginx(folder, f"{LOOPBACK}:{self.port}", user))
        command: list[str | Path] = [
            programs.find("nginx"),
            "-e",
            folder / "error.log",
            "-c",
            configuration,
        ]
        self.service = Service("nginx", command, folder / "log", lambda: serves(self.port))

    def __enter__(self) -> HttpCache:
        self.service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.service.stop()


class Executor:
    """BuildGrid, which caches and executes, with its database and one worker.

    Used as a context manager, it runs inside the `with` block.

    Args:
      programs: the installation.
      folder: takes everything; must not exist.
      jobs: how many actions run at once.
    """

    def __init__(self, programs: Programs, folder: Path, jobs: int) -> None:
        folder.mkdir()
        self.port = free_port()
        self.blobs = folder / "storage/cas/objects"
        self._programs = programs
        self._database = _Database(programs, folder)
        self.server = self._server(folder)
        self.store = self._store(folder)
        self.worker = self._worker(folder, jobs)
        self._running = ExitStack()

    def __enter__(self) -> Executor:
        with ExitStack() as stack:
            self._database.start()
            stack.callback(self._database.stop)
            bgd = self._programs.find("bgd")
            _run([bgd, "migrate", "apply", self._database.url])
            for service in (self.server, self.store, self.worker):
                service.start()
                stack.callback(service.stop)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _server(self, folder: Path) -> Service:
        configuration = folder / "buildgrid.yml"
        address = f"{LOOPBACK}:{self.port}"
        storage = folder / "storage"
        configuration.write_text(configurations.buildgrid(storage, address, self._database.url))
        command: list[str | Path] = [self._programs.find("bgd"), "server", "start", configuration]
        log = folder / "buildgrid.log"
        return Service("BuildGrid", command, log, lambda: serves(self.port), signal.SIGINT)

    def _store(self, folder: Path) -> Service:
        self._store_port = free_port()
        command: list[str | Path] = [
            self._programs.find("buildbox-casd"),
            f"--bind={LOOPBACK}:{self._store_port}",
            f"--cas-remote=http://{LOOPBACK}:{self.port}",
            "--retry-limit=20",
            "--quota-high=20G",
            folder / "staged",
        ]
        log = folder / "casd.log"
        return Service("buildbox-casd", command, log, lambda: serves(self._store_port))

    def _worker(self, folder: Path, jobs: int) -> Service:
        log = folder / "worker.log"
        command: list[str | Path] = [
            self._programs.find("buildbox-worker"),
            f"--bots-remote=http://{LOOPBACK}:{self.port}",
            f"--cas-remote=http://{LOOPBACK}:{self._store_port}",
            f"--buildbox-run={self._programs.find('buildbox-run-hosttools')}",
            "--runner-arg=--staging-mode=copy-or-link",
            "--bots-retry-limit=20",
            "--platform=OSFamily=linux",
            f"--concurrent-jobs={jobs}",
            "worker",
        ]
        return Service("buildbox-worker", command, log, lambda: True)


class _Database:
    """PostgreSQL, which refuses to run as root: then another user id runs it."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._port = free_port()
        self.url = f"postgresql+psycopg2://buildgrid@{LOOPBACK}:{self._port}/postgres"
        self._service: Service | None = None

    def start(self) -> None:
        data = self._folder / "database"
        data.mkdir(mode=0o700)
        user = _other_user(data)
        create = ["--auth=trust", "--username=buildgrid", "--encoding=UTF8", "--no-locale"]
        _run([*user, self._programs.find("initdb"), *create, "--no-sync", data])
        settings = f"listen_addresses={LOOPBACK} port={self._port} fsync=off"
        settings += " unix_socket_directories="
        options = [word for setting in settings.split() for word in ("-c", setting)]
        self._service = Service(
            "PostgreSQL",
            [*user, self._programs.find("postgres"), "-D", data, *options],
            self._folder / "postgres.log",
            lambda: serves(self._port),
            signal.SIGINT,
        )
        self._service.start()

    def stop(self) -> None:
        if self._service:
            self._service.stop()


def _run(command: Sequence[str | Path]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        words = " ".join(map(str, command))
        raise ServiceError(f"{words} failed:\n{result.stdout}{result.stderr}")


def _other_user(folder: Path) -> list[str]:
    """What to put before a command of root's so that another user runs it, who owns the folder."""
    if os.geteuid() != 0:
        return []
    in_namespace = ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"]
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    for owner, prefix in ((_NOBODY, drop), (0, in_namespace)):
        os.chown(folder, owner, owner)
        trial = subprocess.run([*prefix, "test", "-w", folder], capture_output=True)
        if trial.returncode == 0:
            return prefix
    raise ServiceError(
        f"PostgreSQL does not run as root, and no other user can enter {folder}.\n"
        "  to do: choose a folder that every user may enter, or run this as another user"
    )
