"""Fetches packages of another Debian suite through the machine's own mirror, without root.

apt runs on a private configuration: sources, lists, cache and status lie in a folder of ours, while
the mirror, proxies and keys stay those of the machine. Signatures are checked as always.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from errors import BootstrapError

_KEYRINGS = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")


class Suite:
    """A Debian suite, and the packages it offers.

    Args:
        name: the suite's name, such as "forky"
        folder: an existing directory for apt's private state
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._options = self._write_configuration()
        self._dependencies: dict[str, list[str]] = {}

    def update(self, root: str) -> None:
        """Downloads the suite's index, and reads what `root` depends on, directly or not."""
        tried = []
        for mirror in mirrors():
            self._point_at(mirror)
            result = self._apt("apt-get", "update")
            tried.append(f"{mirror} {self._name}")
            if self._candidate(root):
                self._read_dependencies(root)
                return
        raise BootstrapError(
            f"No configured Debian mirror offers the package {root} in suite {self._name}.",
            tried="; ".join(tried),
            said=result.stdout + result.stderr,
            advice="Check `apt-get update` on this machine, or name a Debian mirror that has the "
            "suite in MARLIN_DEBIAN_MIRROR.",
        )

    def version(self, package: str) -> str:
        """The version that the suite offers of a package."""
        return self._candidate(package)

    def depends(self, package: str) -> list[str]:
        """The packages that a package depends on directly."""
        return self._dependencies.get(package, [])

    def extract(self, packages: Iterable[str], destination: Path) -> None:
        """Downloads packages and unpacks their files under a directory."""
        folder = self._folder / "debs"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        names = sorted(packages)
        result = self._apt("apt-get", "download", *names, cwd=folder)
        debs = sorted(folder.glob("*.deb"))
        if result.returncode != 0 or len(debs) != len(names):
            raise BootstrapError(
                "apt-get could not download packages that Bazel needs.",
                tried="apt-get download " + " ".join(names),
                said=result.stdout + result.stderr,
                advice="Run the command again: the mirror may have changed in between. If it keeps "
                "failing, check `apt-get update` on this machine.",
            )
        for deb in debs:
            subprocess.run(["dpkg-deb", "--extract", str(deb), str(destination)], check=True)

    def _write_configuration(self) -> list[str]:
        for path in ("lists/partial", "cache/archives/partial"):
            (self._folder / path).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        settings = {
            "Dir::Etc::SourceList": self._folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": self._folder / "lists",
            "Dir::State::Status": self._folder / "status",
            "Dir::Cache": self._folder / "cache",
            "APT::Architecture": "amd64",
            "APT::Default-Release": "",
            # Root's apt would drop to a user that may not enter our folder.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            # A frozen snapshot of a mirror is older than its index says it may be.
            "Acquire::Check-Valid-Until": "false",
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def _point_at(self, mirror: str) -> None:
        keyrings = [Path("/usr/share/keyrings", name) for name in _KEYRINGS]
        signed_by = "".join(f"[signed-by={path}] " for path in keyrings if path.exists())
        signed_by = signed_by.split("] ")[0] + "] " if signed_by else ""
        (self._folder / "sources.list").write_text(f"deb {signed_by}{mirror} {self._name} main\n")

    def _apt(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
        return subprocess.run(
            [command[0], *self._options, *command[1:]],
            capture_output=True,
            text=True,
            env=environment,
            cwd=cwd,
        )

    def _candidate(self, package: str) -> str:
        result = self._apt("apt-cache", "policy", package)
        match = re.search(r"Candidate: (\S+)", result.stdout)
        return match[1] if match and match[1] != "(none)" else ""

    def _read_dependencies(self, root: str) -> None:
        kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        options = [f"--no-{kind}" for kind in kinds]
        result = self._apt("apt-cache", "depends", "--recurse", *options, root)
        package = ""
        for line in result.stdout.splitlines():
            if not line.startswith((" ", "<")):
                package = line.split(":")[0]
                self._dependencies[package] = []
            elif match := re.match(r" [ |](?:Pre)?Depends: ([^<\s:]+)", line):
                self._dependencies.setdefault(package, []).append(match[1])


def mirrors() -> list[str]:
    """The URIs of the mirrors that this machine takes its own Debian release from, in order.

    MARLIN_DEBIAN_MIRROR, a URI, replaces them.
    """
    override = os.environ.get("MARLIN_DEBIAN_MIRROR")
    if override:
        return [override]
    command = ["apt-get", "indextargets", "--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE)"]
    result = subprocess.run(command, capture_output=True, text=True)
    found: dict[str, None] = {}
    for line in result.stdout.splitlines():
        created_by, uri, release = line.split(" ", 2)
        # Only the archive itself has every suite: not its security part, nor a third party.
        if created_by == "Packages" and release in _releases():
            found[uri] = None
    if not found:
        raise BootstrapError(
            "This machine's apt names no mirror of its own Debian release.",
            tried=" ".join(command),
            said=result.stdout + result.stderr,
            advice="Name a Debian mirror in MARLIN_DEBIAN_MIRROR, or put Bazel or Bazelisk on PATH "
            "and set MARLIN_BAZELW=online.",
        )
    return list(found)


def _releases() -> set[str]:
    names = {"oldstable", "stable", "testing", "unstable", "sid"}
    os_release = Path("/etc/os-release").read_text()
    match = re.search(r'^VERSION_CODENAME="?([^"\s]+)', os_release, re.MULTILINE)
    return names | ({match[1]} if match else set())
