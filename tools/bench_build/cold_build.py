"""Measures the main job from nothing: bootstrap, cold build and null build, in wall-clock seconds.

    cold_build.py FOLDER [--archs sm_80,sm_89] [--target //csrc/marlin_moe:kernels]

FOLDER must not exist and must not lie in a temporary folder, which sandboxed actions do not see. It
takes the caches and the outputs, and is left for inspection. Downloads are part of the figures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from actions import REPOSITORY, machine_line

_NULL_BUILDS = 5


def seconds_of(bazel: list[str], *arguments: str, environment: dict[str, str]) -> float:
    """Runs Bazel, which must succeed."""
    started = time.monotonic()
    subprocess.run([*bazel, *arguments], cwd=REPOSITORY, env=environment, check=True)
    return time.monotonic() - started


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--archs", default="sm_80,sm_89")
    parser.add_argument("--target", default="//csrc/marlin_moe:kernels")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    folder = options.folder.resolve()
    environment = dict(os.environ, XDG_CACHE_HOME=str(folder / "cache"), MARLIN_BAZELW="offline")
    # Convenience links would be taken away from other builds of this tree.
    bazel = [str(REPOSITORY / "bazelw"), f"--output_user_root={folder / 'output'}"]
    build = ["build", options.target, f"--cuda_archs={options.archs}"]
    build += ["--experimental_convenience_symlinks=ignore", "--noshow_progress"]
    lines = [f"before: {machine_line()}"]
    try:
        bootstrap = seconds_of(bazel, "--version", environment=environment)
        lines.append(f"bootstrap:  {bootstrap:7.1f} s")
        start = seconds_of(bazel, "info", "release", environment=environment)
        lines.append(f"server:     {start:7.1f} s")
        lines.append(f"cold build: {seconds_of(bazel, *build, environment=environment):7.1f} s")
        nulls = [seconds_of(bazel, *build, environment=environment) for _ in range(_NULL_BUILDS)]
        lines.append(f"null build: {statistics.median(nulls):7.2f} s (median of {_NULL_BUILDS})")
        lines.append(f"after: {machine_line()}")
    finally:
        subprocess.run([*bazel, "shutdown"], cwd=REPOSITORY, env=environment, check=False)
        print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
