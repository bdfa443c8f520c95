"""A prefix appears whole or not at all, is set up once, and never where a sandbox hides it."""

import multiprocessing
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import bootstrap
import cuda_toolkit
from errors import BootstrapError


def _fill_slowly(what: str, work: Path, prefix: Path, say: Callable[[str], None]) -> None:
    work.mkdir()
    time.sleep(0.5)
    with (prefix.parent / "fillings").open("a") as log:
        log.write("x")


def _run(prefix: Path) -> None:
    with (
        mock.patch.object(bootstrap, "_HIDDEN", ()),
        mock.patch.object(bootstrap, "_fill", _fill_slowly),
        mock.patch.object(cuda_toolkit, "try_out", lambda prefix: None),
        mock.patch("sys.argv", ["bootstrap.py", "cuda", str(prefix)]),
    ):
        raise SystemExit(bootstrap.main())


class BootstrapTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.prefix = Path(folder.name) / "prefix"

    def left(self) -> list[str]:
        return [path.name for path in self.prefix.parent.iterdir() if path.suffix != ".lock"]

    def set_up(self, fill: Callable[..., None], try_out: Callable[[Path], None]) -> None:
        with (
            mock.patch.object(bootstrap, "_fill", fill),
            mock.patch.object(cuda_toolkit, "try_out", try_out),
        ):
            bootstrap._set_up("cuda", self.prefix)

    def test_what_a_killed_bootstrap_left_is_replaced(self) -> None:
        work = self.prefix.with_name(".prefix.partial")
        for leftover in (work, self.prefix):
            leftover.mkdir()
            (leftover / "stale").touch()
        self.set_up(lambda what, work, prefix, say: work.mkdir(), lambda prefix: None)
        self.assertEqual([path.name for path in self.prefix.iterdir()], ["complete"])
        self.assertEqual(self.left(), ["prefix"])

    def test_an_interrupted_download_leaves_nothing(self) -> None:
        def fill(what: str, work: Path, prefix: Path, say: Callable[[str], None]) -> None:
            work.mkdir()
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.set_up(fill, lambda prefix: None)
        self.assertEqual(self.left(), [])

    def test_a_prefix_that_does_not_run_is_not_kept(self) -> None:
        def try_out(prefix: Path) -> None:
            raise BootstrapError("It does not run.")

        with self.assertRaises(BootstrapError):
            self.set_up(lambda what, work, prefix, say: work.mkdir(), try_out)
        self.assertEqual(self.left(), [])

    def test_of_two_at_once_one_works_and_both_find_the_prefix(self) -> None:
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=_run, args=(self.prefix,)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        self.assertEqual([process.exitcode for process in processes], [0, 0])
        self.assertEqual((self.prefix.parent / "fillings").read_text(), "x")
        self.assertTrue((self.prefix / "complete").exists())

    def test_a_cache_that_a_sandbox_hides_is_refused(self) -> None:
        with self.assertRaisesRegex(BootstrapError, "XDG_CACHE_HOME"):
            bootstrap._check_machine("cuda", Path("/tmp/cache/prefix"))


if __name__ == "__main__":
    unittest.main()
