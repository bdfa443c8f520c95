"""Tests of the checks: each finds a planted error, and nothing in a tree that has none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import lint
import pytest
from workspace import WorkspaceError, find_root, list_files

TOOLS = os.environ.get("LINT_TOOLS", "").split()

# A file that a check concerns: its name, a good text, and bad ones with what is said of them.
FILES: dict[str, tuple[str, str, dict[str, str]]] = {
    "buildifier": (
        "a/BUILD.bazel",
        'load("//:x.bzl", "x")\n\nx(name = "y")\n',
        {
            'load("//:x.bzl", "x")\n\nx(name="y")\n': "BUILD.bazel # reformat",
            'load("//:x.bzl", "z")\n\nx(name = "y")\n': 'Loaded symbol "z" is unused',
        },
    ),
    "clang_format": (
        "a/x.cuh",
        "int x();\n",
        {"int  x();\n": "clang-format-violations"},
    ),
    "machine_paths": (
        "a/x.txt",
        f"/usr/local/cuda ${{x}}{os.sep}root/a root/work/x /homely /workers a/root/b "
        f"https://x.org{os.sep}root/\n",
        {
            f"see {os.sep}root/x\n": "a path of one machine",
            f"{os.sep}home/somebody/y\n": "a path of one machine",
            f'"{os.sep}work/z"\n': "a path of one machine",
            f"cd {os.sep}root\n": "a path of one machine",
        },
    ),
    "mypy": (
        "tools/x.py",
        "def f() -> int:\n    return 1\n",
        {
            "def f():\n    return 1\n": "no-untyped-def",
            "def f() -> int:\n    return ''\n": "return-value",
        },
    ),
    "package_indexes": (
        "a/requirements_lock.txt",
        "x==1.0 \\\n    --hash=sha256:00\n",
        {
            "--index-url https://x.org/simple\nx==1.0\n": "names a package index",
            "x @ https://x.org/x.whl\n": "names a package index",
        },
    ),
    "ruff": (
        "a/x.py",
        'print("x")\n',
        {"print('x')\n": "would be reformatted", "import os\n": "F401"},
    ),
    "text": (
        "a/x.txt",
        "one\n\ntwo\n",
        {
            "one \n": "trailing space",
            "one\r\n": "carriage return",
            "one": "no newline",
            "<" * 7 + " HEAD\n": "conflict marker",
        },
    ),
}
PLANTED = [(check, text, said) for check, file in FILES.items() for text, said in file[2].items()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with the settings of this one and nothing to check."""
    here = Path(os.environ["LINT_SETTINGS"]).parent
    for name in (".clang-format", "pyproject.toml"):
        shutil.copy(here / name, tmp_path)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text.encode())


def test_every_check_is_tested() -> None:
    assert set(FILES) == set(lint.CHECKS)


@pytest.mark.parametrize("check", FILES)
def test_good_file_passes(check: str, tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name, good, _ = FILES[check]
    write(tree, name, good)
    assert lint.run_check(check, tree, TOOLS), capfd.readouterr()


@pytest.mark.parametrize(("check", "text", "said"), PLANTED)
def test_planted_error_is_found(
    check: str, text: str, said: str, tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name, good, _ = FILES[check]
    write(tree, str(Path(name).with_name(f"good_{Path(name).name}")), good)
    write(tree, name, text)
    assert not lint.run_check(check, tree, TOOLS)
    output = capfd.readouterr()
    assert said in output.out + output.err
    assert name in output.out + output.err


@pytest.mark.parametrize("check", FILES)
def test_no_file_to_check_is_a_failure(check: str, tmp_path: Path) -> None:
    assert not lint.run_check(check, tmp_path, TOOLS)


@pytest.mark.parametrize("check", [name for name, check in lint.CHECKS.items() if check.tool])
def test_missing_tool_is_a_failure(check: str, tree: Path) -> None:
    name, good, _ = FILES[check]
    write(tree, name, good)
    assert not lint.run_check(check, tree, [])


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("MODULE.bazel", {"buildifier"}),
        ("e2e/smoke/WORKSPACE", {"buildifier"}),
        ("offline/x/toolkit.BUILD", {"buildifier"}),
        ("tests/gpu/x.py", {"ruff"}),
        ("tools/x/y.py", {"ruff", "mypy"}),
        ("offline/x.py", {"ruff", "mypy"}),
        ("csrc/x.cu", {"clang_format"}),
        ("tests/gpu/x.cc", {"clang_format"}),
        ("tests/generator/golden/switch/x.cu", set()),
        ("tools/requirements.in", {"package_indexes"}),
        ("README.md", set()),
    ],
)
def test_files_of_a_check(name: str, checks: set[str]) -> None:
    path = PurePosixPath(name)
    concerned = {key for key, check in lint.CHECKS.items() if check.concerns(path)}
    assert concerned == checks | {"machine_paths", "text"}


def test_tree_without_git_is_walked(tmp_path: Path) -> None:
    for name in ("a/b.py", "c", "a/__pycache__/b.pyc"):
        write(tmp_path, name, "")
    (tmp_path / "link").symlink_to(tmp_path / "c")
    (tmp_path / "bazel-out").symlink_to("/usr")
    assert list_files(tmp_path) == ["a/b.py", "c"]


@pytest.mark.skipif(not shutil.which("git"), reason="git is not on PATH")
def test_git_decides_what_is_a_source(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for name in (".gitignore", "tracked", "new", "deleted", "ignored"):
        write(tmp_path, name, "/ignored\n")
    subprocess.run(["git", "add", "tracked", "deleted"], cwd=tmp_path, check=True)
    (tmp_path / "deleted").unlink()
    assert list_files(tmp_path) == [".gitignore", "new", "tracked"]


def test_root_is_behind_the_link(tmp_path: Path) -> None:
    for name in ("tree/bazelw", "tree/MODULE.bazel", "copied/MODULE.bazel", "runfiles/x"):
        write(tmp_path, name, "")
    (tmp_path / "runfiles/MODULE.bazel").symlink_to(tmp_path / "tree/MODULE.bazel")
    assert find_root(tmp_path / "runfiles/MODULE.bazel") == (tmp_path / "tree").resolve()
    with pytest.raises(WorkspaceError, match="not the source tree"):
        find_root(tmp_path / "copied/MODULE.bazel")


if __name__ == "__main__":
    sys.exit(pytest.main(["-p", "no:cacheprovider", "-q", __file__]))
