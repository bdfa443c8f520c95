"""Unpacks wheels into one Bazel package each, with a BUILD file that names their dependencies.

    unpack_wheels.py FOLDER LOCK

The layout is that of rules_python: site-packages/ to import from, bin/ for programs, data/ for the
wheel's data. Dependencies are those that each wheel's metadata requires of this interpreter.
"""

from __future__ import annotations

import re
import stat
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

# pip carries the reference implementation of the packaging standards.
from pip._vendor.packaging.requirements import Requirement

_BUILD = """load("@rules_python//python:py_library.bzl", "py_library")

package(default_visibility = ["//visibility:public"])

py_library(
    name = "pkg",
    srcs = glob(["site-packages/**/*.py"], allow_empty = True),
    data = glob(
        ["site-packages/**"],
        allow_empty = True,
        exclude = ["**/*.py", "**/*.pyc", "**/*.dist-info/RECORD"],
    ),
    imports = ["site-packages"],
    deps = [{deps}],
)

alias(
    name = "{name}",
    actual = ":pkg",
)

filegroup(
    name = "data",
    srcs = glob(["data/**"], allow_empty = True),
)

filegroup(
    name = "dist_info",
    srcs = glob(["site-packages/*.dist-info/**"], allow_empty = True),
)

filegroup(
    name = "extracted_whl_files",
    srcs = glob(["bin/**", "data/**", "site-packages/**"], allow_empty = True),
)
"""

# Where a wheel's "<name>.data/<key>" goes.
_SCHEME = {"purelib": "site-packages", "platlib": "site-packages", "scripts": "bin", "data": "data"}


def main() -> None:
    """Unpacks every wheel of the folder beside it."""
    folder, lock = Path(sys.argv[1]), Path(sys.argv[2])
    wheels = {normalize(wheel.name.split("-")[0]): wheel for wheel in folder.glob("*.whl")}
    extras = locked_extras(lock)
    for name in sorted(wheels):
        requires = unpack(wheels[name], Path(name))
        needed = dependencies(requires, extras.get(name, set())) & set(wheels) - {name}
        labels = ", ".join(f'"//{dependency}:pkg"' for dependency in sorted(needed))
        Path(name, "BUILD.bazel").write_text(_BUILD.format(name=name, deps=labels))


def normalize(name: str) -> str:
    """A package's name as Bazel labels spell it."""
    return re.sub(r"[-_.]+", "_", name).lower()


def locked_extras(lock: Path) -> dict[str, set[str]]:
    """The extras that a lock file asks of each package."""
    found = re.findall(r"^([\w.-]+)\[([^\]]+)\]==", lock.read_text(), re.MULTILINE)
    return {
        normalize(name): {extra.strip() for extra in extras.split(",")} for name, extras in found
    }


def dependencies(requires: list[str], extras: set[str]) -> set[str]:
    """The packages, out of a wheel's requirements, that apply to this interpreter."""
    needed = set()
    for requirement in map(Requirement, requires):
        marker = requirement.marker
        if not marker or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            needed.add(normalize(requirement.name))
    return needed


def unpack(wheel: Path, destination: Path) -> list[str]:
    """Unpacks a wheel; returns its requirements."""
    requires: list[str] = []
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            path = destination / place(entry.filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(entry))
            mode = entry.external_attr >> 16
            path.chmod(0o755 if mode & stat.S_IXUSR or path.parent.name == "bin" else 0o644)
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", entry.filename):
                metadata = HeaderParser().parsestr(archive.read(entry).decode())
                requires = metadata.get_all("Requires-Dist") or []
    return requires


def place(name: str) -> str:
    """Where a file of a wheel goes, from its name inside the wheel."""
    match = re.match(r"[^/]+\.data/(\w+)/(.*)", name)
    return f"{_SCHEME.get(match[1], 'data')}/{match[2]}" if match else f"site-packages/{name}"


if __name__ == "__main__":
    main()
