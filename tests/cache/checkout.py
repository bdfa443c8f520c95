"""Copies of the source tree, each with a Bazel server, a cache folder and a user of its own.

A copy stands for another person's checkout on another machine: nothing that differs between the two
may reach the actions of a build. What Bazel itself is made of is shared, through links, so that
nothing is downloaded again.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType

from execution_log import Spawn, read_log
from workspace import list_files_and_links

_SERVER_HEAP = "1g"
_SECONDS_IDLE = 120

# What the caller's environment may tell ./bazelw and Bazel's repository rules.
_INHERITED = (
    "BAZELISK_HOME",
    "CUDA_PATH",
    "MARLIN_BAZELW",
    "MARLIN_CUDA_FROM_WHEELS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)

# Settings of the person whose tree this is; a checkout of theirs would not have them.
_PERSONAL = frozenset({"user.bazelrc"})


class BuildError(Exception):
    """A command of Bazel failed."""


class Checkout:
    """A copy of a source tree in `folder`/tree, and the Bazel server that builds it.

    Everything is below `folder`, which must not exist: `tree`, `home`, `cache`, and Bazel's
    `output`. `last_log` is the execution log of the latest build.
    """

    def __init__(
        self,
        source: Path,
        folder: Path,
        *,
        user: str,
        repositories: Mapping[str, Path] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Copies the tree.

        Args:
          source: the tree to copy, as it is now.
          folder: where everything goes.
          user: name of the user who builds here.
          repositories: folders that take the place of external repositories, by canonical name.
          variables: what else the user's environment holds.
        """
        folder.mkdir(parents=True)
        self.folder = folder.resolve()
        self.tree = self.folder / "tree"
        self.output = self.folder / "output"
        self.home = self.folder / "home"
        self.home.mkdir()
        self.last_log = self.folder / "execution_log.json"
        self._repositories = dict(repositories or {})
        copy_tree(source, self.tree)
        cache = self.folder / "cache"
        _borrow_tools(_caches_of_caller(), cache)
        self.environment = {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "HOME": str(self.home),
            "LOGNAME": user,
            "PATH": os.environ.get("PATH", os.defpath),
            "USER": user,
            "XDG_CACHE_HOME": str(cache),
            **(variables or {}),
        }

    def __enter__(self) -> Checkout:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def bazel(self, command: str, *arguments: str) -> str:
        """Runs a Bazel command; returns what it writes to its standard output.

        Raises:
          BuildError: it failed; the text is what it said.
        """
        startup = [f"--output_user_root={self.output}", f"--host_jvm_args=-Xmx{_SERVER_HEAP}"]
        startup.append(f"--max_idle_secs={_SECONDS_IDLE}")
        result = subprocess.run(
            [str(self.tree / "bazelw"), *startup, command, *arguments],
            cwd=self.tree,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise BuildError(f"bazel {command} {' '.join(arguments)}:\n{result.stderr}")
        return result.stdout

    def build(self, targets: Sequence[str], *options: str, jobs: int = 2) -> list[Spawn]:
        """Builds targets; returns what the execution log says."""
        flags = ["--color=no", "--curses=no", "--noshow_progress", f"--jobs={jobs}"]
        flags.append(f"--execution_log_json_file={self.last_log}")
        flags += [
            f"--override_repository={name}={path}" for name, path in self._repositories.items()
        ]
        self.bazel("build", *flags, *options, *targets)
        return read_log(self.last_log)

    def clean(self) -> None:
        """Removes all outputs, and what the server remembers of them."""
        self.bazel("clean")

    @contextmanager
    def edited(self, edits: Mapping[str, str]) -> Iterator[None]:
        """Gives files of the tree another content for a while."""
        before = {name: (self.tree / name).read_bytes() for name in edits}
        try:
            for name, text in edits.items():
                if text.encode() == before[name]:
                    raise ValueError(f"the edit of {name} changes nothing")
                (self.tree / name).write_text(text, encoding="utf-8")
            yield
        finally:
            for name, content in before.items():
                (self.tree / name).write_bytes(content)

    def read(self, name: str) -> str:
        """Returns the text of a file of the tree."""
        return (self.tree / name).read_text(encoding="utf-8")

    def replaced(self, name: str, old: str, new: str) -> str:
        """Returns the text of a file of the tree with its one occurrence of a text replaced."""
        text = self.read(name)
        if text.count(old) != 1:
            raise ValueError(f"{name} has {text.count(old)} times {old!r}, not once")
        return text.replace(old, new)

    def bin_folder(self, *options: str) -> Path:
        """Returns where the outputs of a build with certain options are."""
        return Path(self.bazel("info", "bazel-bin", *options).strip())

    def remove(self) -> None:
        """Ends the server and removes everything below `folder`."""
        try:
            self.bazel("shutdown")
        finally:
            remove(self.folder)


def repository_of(*modules: ModuleType) -> dict[str, Path]:
    """Returns the external repositories that modules come from, by canonical name."""
    found = {}
    for module in modules:
        path = Path(module.__file__ or "").resolve()
        if "external" not in path.parts:
            raise ValueError(f"{module.__name__} is in {path}, which is in no external repository")
        index = path.parts.index("external")
        found[path.parts[index + 1]] = Path(*path.parts[: index + 2])
    return found


def copy_tree(source: Path, destination: Path) -> None:
    """Copies the sources of a tree as they are now, personal settings left out."""
    for name in list_files_and_links(source):
        if name not in _PERSONAL:
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, destination / name, follow_symlinks=False)


def _caches_of_caller() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _borrow_tools(caller: Path, own: Path) -> None:
    """Fills a cache folder with what ./bazelw set up in the caller's, under paths of its own.

    A Bazel prefix names its own place in one file, bazelrc, which is written anew. The rest is
    links.
    """
    theirs, ours = caller / "marlin_moe_kernels", own / "marlin_moe_kernels"
    ours.mkdir(parents=True)
    for entry in [*theirs.glob("bazel-*"), *theirs.glob("cuda-*")]:
        if not (entry / "complete").exists():
            continue
        (ours / entry.name).mkdir()
        for part in entry.iterdir():
            link = ours / entry.name / part.name
            if part.name == "bazelrc":
                rc = part.read_text(encoding="utf-8")
                link.write_text(rc.replace(str(entry), str(link.parent)), encoding="utf-8")
            else:
                link.symlink_to(part.resolve())
    if (theirs / "registry_answers").exists():
        shutil.copy2(theirs / "registry_answers", ours)
    if (caller / "bazelisk").is_dir():
        (own / "bazelisk").symlink_to((caller / "bazelisk").resolve())


def remove(folder: Path) -> None:
    """Removes a folder in which Bazel or a cache made folders read-only."""
    for path, _, _ in os.walk(folder):
        os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(folder)
