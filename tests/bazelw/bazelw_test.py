"""./bazelw works wherever the repository is cloned, and whatever the locale is, or says why not."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bazel_command import own_server
from checkout import copy_tree
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that linux-sandbox hides, with characters that rc files, URLs and flags treat."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="it's ü #1, 100%25: ") as path:
        yield Path(path)


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_module_beside_a_clone_under_tmp_builds_through_a_link(
    mode, folder, tmp_path, monkeypatch
):
    copy_tree(ROOT, folder / "clone")
    (folder / "link").symlink_to("clone")
    module = folder / "module"
    copy_tree(folder / "clone/e2e/smoke", module)
    text = (module / "MODULE.bazel").read_text()
    (module / "MODULE.bazel").write_text(text.replace('path = "../.."', 'path = "../link"'))
    # The Bazel that a machine with the internet has on PATH.
    program = tmp_path / "bin/bazel"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nMARLIN_BAZELW=offline exec "{ROOT}/bazelw" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MARLIN_BAZELW", mode)
    monkeypatch.setenv("LC_ALL", "C")
    with own_server(folder / "link", module) as bazel:
        # The generator runs in a sandbox, and is in the clone.
        command = [*bazel, "build", "//:kernels", "--output_groups=generated"]
        result = subprocess.run(command, cwd=module, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    assert (module / "bazel-bin/kernels/kernel_selector.h").is_file()


def test_python_2_is_named(tmp_path):
    python = tmp_path / "bin/python3"
    python.parent.mkdir()
    # What Python 2.7 answers, which has no -I.
    python.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo Python 2.7.18 >&2 && exit\n'
        'echo "Unknown option: $1" >&2\nexit 2\n'
    )
    python.chmod(0o755)
    environment = {
        **os.environ,
        "MARLIN_BAZELW": "offline",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    command = [str(ROOT / "bazelw"), "info"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 1
    assert result.stderr == (
        "bazelw: python3 on PATH is Python 2.7.18, too old\n"
        "bazelw: put Python 3.10 or newer first on PATH\n"
    )
