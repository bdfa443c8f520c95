"""Tries remote caching and remote execution with real servers on this machine.

    run.py FOLDER [SCENARIO...] [--target LABEL] [--jobs N]

FOLDER takes everything: the servers, installed there once without root, and the caches and the
checkouts of the scenarios, which are deleted at the end. It must not lie in a temporary folder,
which Bazel's sandbox hides. The exit code is 0 if all checks hold.
"""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_SHARED = ("offline", "tests/cache", "tests/lint", "tools/bench_build")
sys.path += [str(REPOSITORY / folder) for folder in _SHARED]

from actions import machine_line  # noqa: E402
from cached import http_cache, remote_execution  # noqa: E402
from checkout import remove  # noqa: E402
from errors import BootstrapError  # noqa: E402
from install import install  # noqa: E402
from killed import executor_killed, http_cache_killed  # noqa: E402
from laboratory import Laboratory  # noqa: E402
from poisoned import executor_poisoned, http_cache_poisoned  # noqa: E402

SCENARIOS: dict[str, Callable[[Laboratory], None]] = {
    scenario.__name__: scenario
    for scenario in (
        remote_execution,
        http_cache,
        executor_killed,
        http_cache_killed,
        http_cache_poisoned,
        executor_poisoned,
    )
}
_HIDDEN = ("/tmp", "/var/tmp", "/dev/shm")


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    options = _options()
    # So that the servers end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"run.py: another run uses {folder}; choose another folder", file=sys.stderr)
            return 2
        work = folder / "work"
        if work.exists():
            remove(work)
        work.mkdir()
        try:
            programs = install(folder / "servers", lambda text: print(text, flush=True))
            laboratory = Laboratory(programs, REPOSITORY, work, options.target, options.jobs)
            failed = _run_all(laboratory, options.scenarios)
        except BootstrapError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            if not options.keep:
                remove(work)
    passed = len(options.scenarios) - len(failed)
    print(f"{passed} scenarios passed, {len(failed)} failed {' '.join(failed)}".rstrip())
    return 1 if failed else 0


def _run_all(laboratory: Laboratory, names: Sequence[str]) -> list[str]:
    """Runs scenarios one after the other; returns the names of those that failed."""
    print(f"{laboratory.target}: {machine_line(laboratory.source)}")
    failed = []
    for name in names:
        print(f"{name}: {SCENARIOS[name].__doc__}", flush=True)
        started = time.monotonic()
        try:
            SCENARIOS[name](laboratory)
        except Exception as error:  # whatever it is, the next scenario is another matter
            failed.append(name)
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"  {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
    return failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--target", default="//tests/remote:few_kernels")
    parser.add_argument("--jobs", type=int, default=2, help="actions at once")
    parser.add_argument("--keep", action="store_true", help="leave caches and checkouts behind")
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    options.scenarios = options.scenarios or list(SCENARIOS)
    if any(options.folder.resolve().is_relative_to(hidden) for hidden in _HIDDEN):
        parser.error(f"{options.folder} lies in a temporary folder; choose one elsewhere")
    return options


if __name__ == "__main__":
    sys.exit(main())
