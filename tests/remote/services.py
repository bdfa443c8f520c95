"""Starts and stops the servers: an HTTP cache (nginx) and a remote executor (BuildGrid).

All listen on loopback, on ports that were free, and keep everything below one folder. BuildGrid's
server queues the actions in PostgreSQL; buildbox-worker takes them from there and runs each through
buildbox-run-hosttools, in a folder that buildbox-casd fills from BuildGrid's storage.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import string
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from install import Programs

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 60
_STOP_SECONDS = 10
_NOBODY = 65534
_LAST_LINES = 15

# A blob is written elsewhere first, so that a reader or a killed server never sees half of it.
NGINX_CONFIGURATION = string.Template("""\
daemon off;
pid $folder/nginx.pid;
error_log $folder/error.log;
$user
events {}
http {
  log_format cache '$$request_method $$uri $$status $$request_length $$bytes_sent';
  access_log $folder/access.log cache;
  client_body_temp_path $folder/partial;
  proxy_temp_path $folder/unused;
  fastcgi_temp_path $folder/unused;
  scgi_temp_path $folder/unused;
  uwsgi_temp_path $folder/unused;
  client_max_body_size 0;
  server {
    listen $address;
    root $folder/cache;
    location / {
      dav_methods PUT;
      create_full_put_path on;
    }
  }
}
""")

# Every upload and every waiting client holds a thread. Jobs are assigned by an assigner alone.
BUILDGRID_CONFIGURATION = string.Template("""\
server:
  - !channel
    address: "$address"
    insecure-mode: true
thread-pool-size: 400
authorization:
  method: none
monitoring:
  enabled: false
connections:
  - !sql-connection &sql
    connection-string: $database
    pool-size: 20
    max-overflow: 20
storages:
  - !disk-storage &storage
    path: $folder
caches:
  - !lru-action-cache &action-cache
    storage: *storage
    max-cached-refs: 100000
    allow-updates: true
    cache-failed-actions: false
schedulers:
  - !sql-scheduler &scheduler
    sql: *sql
    storage: *storage
    action-cache: *action-cache
    assigners:
      - !priority-age-assigner
        count: 1
        interval: 0.1
instances:
  - name: ""
    services:
      - !action-cache
        cache: *action-cache
      - !execution
        scheduler: *scheduler
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
""")


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
        configuration.write_text(
            NGINX_CONFIGURATION.substitute(
                folder=folder,
                address=f"{_LOOPBACK}:{self.port}",
                # Root's workers would be another user's, who may not enter the folder.
                user=f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
            )
        )
        command: list[str | Path] = [
            programs.find("nginx"),
            "-e",
            folder / "error.log",
            "-c",
            configuration,
        ]
        self.service = Service("nginx", command, folder / "log", lambda: _serves(self.port))

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
            subprocess.run(
                [bgd, "migrate", "apply", self._database.url], check=True, capture_output=True
            )
            for service in (self.server, self.store, self.worker):
                service.start()
                stack.callback(service.stop)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _server(self, folder: Path) -> Service:
        configuration = folder / "buildgrid.yml"
        configuration.write_text(
            BUILDGRID_CONFIGURATION.substitute(
                address=f"{_LOOPBACK}:{self.port}",
                database=self._database.url,
                folder=folder / "storage",
            )
        )
        command: list[str | Path] = [self._programs.find("bgd"), "server", "start", configuration]
        log = folder / "buildgrid.log"
        return Service("BuildGrid", command, log, lambda: _serves(self.port), signal.SIGINT)

    def _store(self, folder: Path) -> Service:
        self._store_port = free_port()
        command: list[str | Path] = [
            self._programs.find("buildbox-casd"),
            f"--bind={_LOOPBACK}:{self._store_port}",
            f"--cas-remote=http://{_LOOPBACK}:{self.port}",
            "--retry-limit=20",
            "--quota-high=20G",
            folder / "staged",
        ]
        log = folder / "casd.log"
        return Service("buildbox-casd", command, log, lambda: _serves(self._store_port))

    def _worker(self, folder: Path, jobs: int) -> Service:
        log = folder / "worker.log"
        command: list[str | Path] = [
            self._programs.find("buildbox-worker"),
            f"--bots-remote=http://{_LOOPBACK}:{self.port}",
            f"--cas-remote=http://{_LOOPBACK}:{self._store_port}",
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
        self.url = f"postgresql+psycopg2://buildgrid@{_LOOPBACK}:{self._port}/postgres"
        self._service: Service | None = None

    def start(self) -> None:
        data = self._folder / "database"
        data.mkdir(mode=0o700)
        user = _other_user(data)
        create = ["--auth=trust", "--username=buildgrid", "--encoding=UTF8", "--no-locale"]
        subprocess.run(
            [*user, self._programs.find("initdb"), *create, "--no-sync", data],
            check=True,
            capture_output=True,
        )
        settings = f"listen_addresses={_LOOPBACK} port={self._port} fsync=off"
        settings += " unix_socket_directories="
        options = [word for setting in settings.split() for word in ("-c", setting)]
        self._service = Service(
            "PostgreSQL",
            [*user, self._programs.find("postgres"), "-D", data, *options],
            self._folder / "postgres.log",
            lambda: _serves(self._port),
            signal.SIGINT,
        )
        self._service.start()

    def stop(self) -> None:
        if self._service:
            self._service.stop()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at present."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _serves(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_LOOPBACK, port)) == 0


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
