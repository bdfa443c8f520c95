"""The mirror is the machine's own, and each failure of apt says what was tried and what to do."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import debian
from errors import BootstrapError

_TARGETS = """\
Packages http://mirror.test/debian/ bookworm
Translations http://translations.test/debian/ bookworm
Packages http://mirror.test/security/ bookworm-security
Packages http://third.test/party/ ./
Packages http://mirror.test/debian/ bookworm
"""

# The output of `apt-cache depends --recurse` for a package with two direct dependencies.
_DEPENDS = """\
root
  Depends: libone
 |Depends: libtwo
  Depends: <virtual>
libone
  PreDepends: libthree
libtwo
libthree
"""


class DebianTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "bin").mkdir()
        (self.root / "apt").mkdir()
        path = f"{self.root}/bin:{os.environ['PATH']}"
        for patch in (
            mock.patch.dict(os.environ, {"PATH": path}),
            mock.patch.object(debian, "_releases", lambda: {"bookworm"}),
        ):
            patch.start()
            self.addCleanup(patch.stop)
        os.environ.pop("MARLIN_DEBIAN_MIRROR", None)

    def command(self, name: str, script: str) -> None:
        """Puts a stand-in for a command of apt on PATH."""
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def output(self, text: str) -> str:
        """A shell command that prints the text."""
        path = self.root / f"output{len(list(self.root.iterdir()))}"
        path.write_text(text)
        return f"cat {path}"

    def suite(self) -> debian.Suite:
        return debian.Suite("forky", self.root / "apt")

    def test_only_the_archive_of_the_own_release_is_a_mirror(self) -> None:
        self.command("apt-get", self.output(_TARGETS))
        self.assertEqual(debian.mirrors(), ["http://mirror.test/debian/"])

    def test_the_environment_names_another_mirror(self) -> None:
        self.command("apt-get", self.output(_TARGETS))
        with mock.patch.dict(os.environ, {"MARLIN_DEBIAN_MIRROR": "http://other.test/"}):
            self.assertEqual(debian.mirrors(), ["http://other.test/"])

    def test_a_machine_without_a_mirror_is_told_how_to_name_one(self) -> None:
        self.command("apt-get", "true")
        with self.assertRaisesRegex(BootstrapError, "MARLIN_DEBIAN_MIRROR"):
            debian.mirrors()

    def test_a_suite_without_the_package_names_the_mirrors_tried(self) -> None:
        self.command("apt-get", 'test "$1" = indextargets && ' + self.output(_TARGETS))
        self.command("apt-cache", "true")
        with self.assertRaisesRegex(BootstrapError, "tried: http://mirror.test/debian/ forky"):
            self.suite().update("root")

    def test_dependencies_are_those_that_apt_tells(self) -> None:
        self.command("apt-get", 'test "$1" = indextargets && ' + self.output(_TARGETS))
        policy, depends = self.output("root:\n  Candidate: 1.2-3\n"), self.output(_DEPENDS)
        self.command("apt-cache", f'case "$*" in *policy*) {policy};; *) {depends};; esac')
        suite = self.suite()
        suite.update("root")
        self.assertEqual(suite.version("root"), "1.2-3")
        self.assertEqual(suite.depends("root"), ["libone", "libtwo"])
        self.assertEqual(suite.depends("libone"), ["libthree"])

    def test_a_package_that_does_not_come_fails_the_download(self) -> None:
        self.command("apt-get", "echo no such package >&2; exit 0")
        with self.assertRaisesRegex(BootstrapError, "no such package"):
            self.suite().extract(["root"], self.root / "out")


if __name__ == "__main__":
    unittest.main()
