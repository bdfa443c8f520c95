"""Measures the main job from nothing: bootstrap, cold build, null build and analysis, in seconds.

    cold_build.py FOLDER [--archs sm_80,sm_89] [--target //csrc/marlin_moe:kernels] [--jobs 2]
                  [--log LOG]

FOLDER must not exist and must not lie in a temporary folder, which sandboxed actions do not see. It
takes the caches and the outputs, and stays for inspection. Figures include downloads. LOG
takes the execution log of the cold build, for build_graph.py.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from actions import REPOSITORY, machine_line, positive

_NULL_BUILDS = 5


class Bazel:
    """The command, its startup options and its environment; all commands must succeed."""

    def __init__(self, folder: Path) -> None:
        self._command = [str(REPOSITORY / "bazelw"), f"--output_user_root={folder / 'output'}"]
        caches = {"XDG_CACHE_HOME": str(folder / "cache"), "MARLIN_BAZELW": "offline"}
        self._environment = dict(os.environ, **caches)

    def __call__(self, *arguments: str) -> float:
        """Runs a command; returns its wall-clock seconds."""
        started = time.monotonic()
        command = [*self._command, *arguments]
        result = subprocess.run(
            command, cwd=REPOSITORY, env=self._environment, check=False, stdout=subprocess.DEVNULL
        )
        if result.returncode:
            raise SystemExit(
                f"exit status {result.returncode}, see above, of {shlex.join(command)}"
            )
        return time.monotonic() - started

    def stop(self) -> None:
        """Ends the server, if the command got far enough to start one."""
        command = [*self._command, "shutdown"]
        subprocess.run(
            command, cwd=REPOSITORY, env=self._environment, check=False, capture_output=True
        )

    def cpu_seconds(self) -> float:
        """Returns user and system time of all processes that the server has waited for."""
        command = [*self._command, "info", "server_pid"]
        server = subprocess.check_output(command, cwd=REPOSITORY, env=self._environment, text=True)
        stat = Path(f"/proc/{int(server)}/stat").read_text(encoding="utf-8")
        # Behind the name, which may hold anything, state is field 3; cutime, cstime are 16 and 17.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def measure(bazel: Bazel, build: Sequence[str], cold_options: Sequence[str]) -> Iterator[str]:
    """Yields a line for each figure as soon as it is measured."""
    yield f"before: {machine_line()}"
    yield f"bootstrap:       {bazel('--version'):7.1f} s"
    yield f"server:          {bazel('info', 'release'):7.1f} s"
    # Downloads and describes what the build needs, so that processes from here on are actions.
    fetch = bazel(*build, "--nobuild")
    yield f"first analysis:  {fetch:7.1f} s, with downloads"
    before = bazel.cpu_seconds()
    actions = bazel(*build, *cold_options)
    yield f"actions:         {actions:7.1f} s, {bazel.cpu_seconds() - before:.1f} CPU seconds"
    yield f"cold build:      {fetch + actions:7.1f} s, first analysis and actions"
    nulls = [bazel(*build) for _ in range(_NULL_BUILDS)]
    yield f"null build:      {statistics.median(nulls):7.2f} s (median of {_NULL_BUILDS})"
    bazel("shutdown")
    bazel("info", "release")
    yield f"analysis:        {bazel(*build, '--nobuild'):7.2f} s, by a new server"
    yield f"after: {machine_line()}"


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--archs", default="sm_80,sm_89")
    parser.add_argument("--target", default="//csrc/marlin_moe:kernels")
    parser.add_argument("--jobs", type=positive, help="actions at a time; default: Bazel's")
    parser.add_argument("--log", type=Path, help="where the execution log goes")
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f"{options.folder} exists; name a folder that does not, for a cold build")
    options.folder.mkdir(parents=True)
    bazel = Bazel(options.folder.resolve())
    build = ["build", options.target, f"--cuda_archs={options.archs}"]
    # Convenience links would be taken away from other builds of this tree.
    build += ["--experimental_convenience_symlinks=ignore", "--noshow_progress"]
    cold_options = [f"--jobs={options.jobs}"] if options.jobs else []
    if options.log:
        cold_options.append(f"--execution_log_json_file={options.log.resolve()}")
    try:
        for line in measure(bazel, build, cold_options):
            print(line, flush=True)
    finally:
        bazel.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
