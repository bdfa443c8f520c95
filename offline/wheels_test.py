"""Wheels are unpacked only if their hash is the pinned one, and programs in them can run."""

import hashlib
import os
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import wheels
from errors import BootstrapError

_WHEEL = "tool-1.0-py3-none-any.whl"


class WheelsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        index = self.root / "index"
        index.mkdir()
        with zipfile.ZipFile(index / _WHEEL, "w") as archive:
            archive.writestr("tool/bin/run", "#!/bin/sh\n")
            archive.writestr("tool/data.txt", "data\n")
            archive.writestr(
                "tool-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tool\nVersion: 1.0\n"
            )
            archive.writestr(
                "tool-1.0.dist-info/WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            archive.writestr("tool-1.0.dist-info/RECORD", "")
        self.digest = hashlib.sha256((index / _WHEEL).read_bytes()).hexdigest()
        settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
        environment = mock.patch.dict(os.environ, settings, PIP_FIND_LINKS=str(index))
        environment.start()
        self.addCleanup(environment.stop)

    def requirements(self, digest: str) -> Path:
        path = self.root / "requirements.txt"
        path.write_text(f"tool==1.0 --hash=sha256:{digest}\n")
        return path

    def test_a_pinned_wheel_is_unpacked_with_programs_that_can_run(self) -> None:
        wheels.unpack(self.requirements(self.digest), self.root / "out")
        self.assertTrue(os.access(self.root / "out/tool/bin/run", os.X_OK))
        self.assertEqual((self.root / "out/tool/data.txt").read_text(), "data\n")
        self.assertFalse(os.access(self.root / "out/tool/data.txt", os.X_OK))

    def test_another_hash_is_refused_and_leaves_nothing(self) -> None:
        with self.assertRaises(BootstrapError) as caught:
            wheels.unpack(self.requirements("0" * 64), self.root / "out")
        self.assertIn("requirements.txt", str(caught.exception))
        self.assertIn("to do:", str(caught.exception))
        self.assertFalse((self.root / "out").exists())


if __name__ == "__main__":
    unittest.main()
