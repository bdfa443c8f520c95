"""Builds on several machines: copies of this source tree, each with its own user and caches."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from checkout import BuildError, Checkout, remove
from execution_log import Spawn, read_log
from report import OURS, outputs

_BUILD_SECONDS = 3600
_POLL_SECONDS = 0.05
# Exit codes of Bazel.
SUCCESS = 0
REMOTE_ERROR = 34
LOST_INPUT = 39


@dataclass(frozen=True)
class Build:
    """A finished build.

    Attributes:
      status: Bazel's exit code.
      said: what Bazel printed.
      spawns: the actions behind the kernels, from the execution log.
      others: the other actions.
      seconds: wall-clock time, the start of a Bazel server not included.
      execution_root: what the paths of outputs start from.
    """

    status: int
    said: str
    spawns: list[Spawn]
    others: list[Spawn]
    seconds: float
    execution_root: Path

    @property
    def outputs(self) -> dict[str, str]:
        """The digest of all outputs by path, as Bazel knows them."""
        return outputs(self.spawns)

    def files(self, paths: Iterable[str] | None = None) -> dict[str, str]:
        """SHA-256 by path of what lies on the disk of some paths, by default of the outputs."""
        found = {path: self.execution_root / path for path in paths or self.outputs}
        return {
            path: hashlib.sha256(file.read_bytes()).hexdigest()
            for path, file in found.items()
            if file.exists()
        }


class Machine:
    """A copy of the source tree with a Bazel of its own: it shares no cache with others.

    Used as a context manager, it has a Bazel server inside the `with` block and is gone afterwards.

    Args:
      source: the source tree.
      folder: takes everything; must not exist.
      target: label of what it builds.
      options: options of every build.
    """

    def __init__(self, source: Path, folder: Path, target: str, options: Sequence[str]) -> None:
        self._folder = folder
        self._target = target
        self._options = options
        self._builds = 0
        self._checkout = Checkout(source, folder, user=folder.name)
        self.tree = self._checkout.tree
        self._execution_root = Path()

    def __enter__(self) -> Machine:
        self._execution_root = Path(self._say("info", "execution_root"))
        return self

    def __exit__(self, *_: object) -> None:
        self._say("shutdown")
        remove(self._folder)

    def build(
        self,
        *options: str,
        when_compiled: tuple[int, Callable[[], None]] | None = None,
    ) -> Build:
        """Builds the target; a failure is a result like any other.

        Args:
          *options: more options of Bazel.
          when_compiled: a number of kernel files, and what to do as soon as so many are compiled.
        """
        self._builds += 1
        stem = self._folder / f"build{self._builds}"
        log, events = stem.with_suffix(".log.json"), stem.with_suffix(".events.json")
        command = self._bazel("build", self._target, *self._options, *options)
        command += [f"--execution_log_json_file={log}", f"--build_event_json_file={events}"]
        command += ["--build_event_publish_all_actions", "--color=no", "--curses=no"]
        command += ["--experimental_convenience_symlinks=ignore", "--noshow_progress"]
        started = time.monotonic()
        status, said = self._run(command, events, when_compiled)
        seconds = time.monotonic() - started
        spawns = read_log(log) if log.exists() else []
        return Build(
            status=status,
            said=said,
            spawns=[spawn for spawn in spawns if spawn.mnemonic in OURS],
            others=[spawn for spawn in spawns if spawn.mnemonic not in OURS],
            seconds=seconds,
            execution_root=self._execution_root,
        )

    def _bazel(self, command: str, *arguments: str) -> list[str]:
        startup = [f"--output_user_root={self._checkout.output}", "--host_jvm_args=-Xmx2g"]
        return [str(self.tree / "bazelw"), *startup, "--max_idle_secs=300", command, *arguments]

    def _say(self, command: str, *arguments: str) -> str:
        result = subprocess.run(
            self._bazel(command, *arguments),
            cwd=self.tree,
            env=self._checkout.environment,
            capture_output=True,
            text=True,
        )
        if result.returncode != 0:
            raise BuildError(f"bazel {command} failed:\n{result.stderr}")
        return result.stdout.strip()

    def _run(
        self,
        command: list[str],
        events: Path,
        when_compiled: tuple[int, Callable[[], None]] | None,
    ) -> tuple[int, str]:
        printed = events.with_suffix(".txt")
        with open(printed, "wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.tree,
                env=self._checkout.environment,
                stdout=output,
                stderr=output,
            )
            try:
                if when_compiled:
                    _await_compiles(process, events, *when_compiled)
                status = process.wait(_BUILD_SECONDS)
            finally:
                process.terminate()
        return status, printed.read_text(errors="replace")


def _await_compiles(
    process: subprocess.Popen[bytes], events: Path, count: int, action: Callable[[], None]
) -> None:
    while process.poll() is None:
        text = events.read_text(errors="replace") if events.exists() else ""
        if text.count('"type":"CudaCompile"') >= count:
            action()
            return
        time.sleep(_POLL_SECONDS)
