"""Sets up Bazel, or a CUDA toolkit, in a folder of the user's cache, from package registries.

    bootstrap.py bazel PREFIX       Bazel with all that it needs to run
    bootstrap.py cuda PREFIX        nvcc and the CUDA runtime

PREFIX appears whole or not at all: it is filled beside its place, renamed, tried, and only then
marked with the file `complete`. Several processes that want the same PREFIX wait for one of them.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# The modules beside this file, which `python3 -I` does not look for.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import bazel_prefix
import cuda_toolkit
from errors import BootstrapError

_HERE = Path(__file__).resolve().parent
_MARKER = "complete"
# A sandboxed action sees an empty /tmp, and would lose the tools that lie there.
_HIDDEN = ("/tmp", "/var/tmp", "/dev/shm")


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["bazel", "cuda"])
    parser.add_argument("prefix", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _check_machine(arguments.what, arguments.prefix)
        with _lock(arguments.prefix):
            if not (arguments.prefix / _MARKER).exists():
                _set_up(arguments.what, arguments.prefix)
    except BootstrapError as error:
        print(f"bazelw: {error}", file=sys.stderr)
        return 1
    except (OSError, subprocess.SubprocessError) as error:
        print(f"bazelw: the bootstrap failed, nothing was kept: {error}", file=sys.stderr)
        print("  to do: check the free space and the permissions there", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bazelw: interrupted; nothing was kept", file=sys.stderr)
        return 130
    return 0


def _check_machine(what: str, prefix: Path) -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise BootstrapError(
            "The offline bootstrap knows Linux on x86-64, "
            f"not {sys.platform} {platform.machine()}.",
            advice="Put Bazel or Bazelisk on PATH and set MARLIN_BAZELW=online.",
        )
    if any(prefix.resolve().is_relative_to(hidden) for hidden in _HIDDEN):
        raise BootstrapError(
            f"The cache folder {prefix.parent} lies in a temporary folder, which Bazel's sandbox "
            "hides from the actions that need its tools.",
            advice="Set XDG_CACHE_HOME to a folder elsewhere.",
        )
    commands = {"bazel": ["apt-get", "apt-cache", "dpkg-deb", "gcc"], "cuda": []}[what]
    missing = [command for command in commands if not shutil.which(command)]
    if missing:
        raise BootstrapError(
            f"The offline bootstrap needs {', '.join(missing)} on PATH.",
            advice="It is made for Debian 12 and 13 (apt install build-essential python3-pip). "
            "Elsewhere put Bazel or Bazelisk on PATH and set MARLIN_BAZELW=online.",
        )


@contextmanager
def _lock(prefix: Path) -> Iterator[None]:
    """Holds the prefix's lock file, which the kernel frees however the process ends."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with open(prefix.parent / f".{prefix.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("bazelw: waiting for another bootstrap of the same folder", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _set_up(what: str, prefix: Path) -> None:
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"bazelw: [{time.monotonic() - started:3.0f} s] {text}", file=sys.stderr, flush=True)

    say(f"setting up {what} in {prefix} (once)")
    work = prefix.with_name(f".{prefix.name}.partial")
    # Left by a run that was killed: the lock says that nobody works on them now.
    for leftover in (work, prefix):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        _fill(what, work, prefix, say)
        work.rename(prefix)
        say("trying it")
        {"bazel": _try_bazel, "cuda": cuda_toolkit.try_out}[what](prefix)
    except BaseException:
        for leftover in (work, prefix):
            shutil.rmtree(leftover, ignore_errors=True)
        raise
    (prefix / _MARKER).touch()
    say("done")


def _fill(what: str, work: Path, prefix: Path, say: Callable[[str], None]) -> None:
    if what == "bazel":
        bazel_prefix.assemble(work, prefix, _HERE / "requirements.txt", say)
    else:
        cuda_toolkit.assemble(work, _HERE / "cuda_requirements.txt", say)


def _try_bazel(prefix: Path) -> None:
    """Starts a server and asks it something: one that lacks a jar never answers."""
    root = prefix / "trial"
    workspace = root / "workspace"
    workspace.mkdir(parents=True)
    (workspace / "MODULE.bazel").touch()
    options = ["--nosystem_rc", "--nohome_rc", f"--bazelrc={prefix}/bazelrc"]
    command = [f"{prefix}/usr/bin/bazel", *options, f"--output_user_root={root}/output"]
    try:
        for arguments in (["info", "release"], ["shutdown"]):
            subprocess.run(
                [*command, *arguments],
                cwd=workspace,
                capture_output=True,
                text=True,
                timeout=90,
                check=True,
                env=dict(os.environ, LC_ALL="C.UTF-8"),
            )
    except (subprocess.SubprocessError, OSError) as error:
        logs = [log.read_text(errors="replace") for log in root.glob("output/*/server/jvm.out")]
        said = getattr(error, "stderr", None) or ""
        raise BootstrapError(
            "The Bazel that was set up does not run.",
            tried=str(error),
            said="\n".join([said if isinstance(said, str) else said.decode(), *logs]),
            advice="Report this with the lines above: the packaging of Bazel in Debian may have "
            "changed.",
        ) from error
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(root)], check=False)
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
