"""The server gets every jar that its list or another jar names, and nothing is taken on trust."""

import tempfile
import unittest
import zipfile
from pathlib import Path

import bazel_prefix
from errors import BootstrapError


class BazelPrefixTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work = Path(folder.name)
        (self.work / "usr/share/java").mkdir(parents=True)
        (self.work / "usr/share/bazel").mkdir()

    def jar(self, name: str, class_path: str = "") -> None:
        manifest = f"Manifest-Version: 1.0\r\nClass-Path: {class_path}\r\n" if class_path else ""
        with zipfile.ZipFile(self.work / "usr/share/java" / name, "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", manifest)

    def listed(self, *names: str) -> None:
        path = self.work / "usr/share/bazel/bazel_classpath_debian_depends.txt"
        path.write_text("".join(f"/usr/share/java/{name}\n" for name in names))

    def test_jars_follow_links_and_class_paths(self) -> None:
        self.jar("one-1.0.jar", "/usr/share/java/two.jar th\r\n ree.jar")
        (self.work / "usr/share/java/one.jar").symlink_to("one-1.0.jar")
        self.jar("two.jar")
        self.jar("three.jar", "absent.jar")
        self.listed("one.jar")
        found, missing = bazel_prefix._jar_closure(self.work)
        self.assertEqual(list(found), ["one.jar", "two.jar", "three.jar"])
        self.assertEqual(missing, ["absent.jar"])

    def test_the_list_names_the_final_place(self) -> None:
        self.jar("one.jar")
        self.listed("one.jar", "absent.jar")
        bazel_prefix._collect_jars(self.work, Path("/final"))
        path = self.work / "usr/share/bazel/bazel_classpath_debian_depends.txt"
        self.assertEqual(path.read_text(), "/final/java/one.jar\n")
        self.assertTrue((self.work / "java/one.jar").exists())

    def test_packages_are_chosen_by_the_names_of_missing_files(self) -> None:
        known = {"libcares2", "libguava-java", "libother-java", "guava-doc"}
        chosen = bazel_prefix._named_like(known, ["libcares.so.2", "guava.jar"])
        self.assertEqual(chosen, {"libcares2", "libguava-java"})

    def test_absolute_links_lead_into_the_prefix(self) -> None:
        (self.work / "usr/target").touch()
        (self.work / "usr/link").symlink_to("/usr/target")
        (self.work / "usr/dangling").symlink_to("/usr/absent")
        bazel_prefix._relink(self.work, Path("/final"))
        self.assertEqual((self.work / "usr/link").readlink(), Path("/final/usr/target"))
        self.assertFalse((self.work / "usr/dangling").is_symlink())

    def test_another_bazel_than_the_kit_is_made_for_is_refused(self) -> None:
        with self.assertRaisesRegex(BootstrapError, "9.1.0"):
            bazel_prefix._check_version("9.1.0+ds-1")
        bazel_prefix._check_version("7.7.1+ds-8+b1")


if __name__ == "__main__":
    unittest.main()
