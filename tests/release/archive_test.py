"""Tests of the release archive: always the same bytes, complete, and of use to another module."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import archive
import pytest
import yaml
from bazel_command import own_server
from workspace import find_root, list_files_and_links

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))
VERSION = archive.module_version((ROOT / "MODULE.bazel").read_text())
PREFIX = f"marlin_moe_kernels-{VERSION}"
PRESUBMIT = yaml.safe_load((ROOT / ".bcr/presubmit.yml").read_text())


def run_bazel(bazel: list[str], workspace: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [*bazel, *arguments]
    return subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)


def build(bazel: list[str], workspace: Path, *arguments: str) -> None:
    result = run_bazel(bazel, workspace, *arguments)
    assert result.returncode == 0, result.stderr


def repository(folder: Path, date: str) -> Path:
    """A Git repository of the source tree as it is now, committed at a date."""
    for name in list_files_and_links(ROOT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    environment = dict(os.environ, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)
    environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    user = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "gc.auto=0"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "sources"]):
        subprocess.run(["git", *user, *command], cwd=folder, env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    return repository(tmp_path_factory.mktemp("checkout"), "2024-01-01T00:00:00+00:00")


@pytest.fixture(scope="module")
def unpacked(checkout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    _, content = archive.archive(checkout, "HEAD")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder)
    return folder / PREFIX


def test_the_bytes_depend_on_the_sources_alone(checkout, tmp_path):
    version, first = archive.archive(checkout, "HEAD")
    old_mask = os.umask(0o077)
    try:
        other = repository(tmp_path / "other", "2025-02-02T02:02:02+02:00")
        (other / "not_tracked").write_text("not in the archive")
        (other / "README.md").write_text("not committed")
        again = archive.archive(other, "HEAD")
    finally:
        os.umask(old_mask)
    assert again == (version, first)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(first))) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {
        (0, 0, 0, "")
    }
    assert {member.mode for member in members} == {0o644}


def test_it_holds_the_sources_and_nothing_else(unpacked):
    for name in (
        *("LICENSE", "MODULE.bazel", "README.md", "CHANGELOG.md", "defs.bzl", "repositories.bzl"),
        *(
            "private/kernels.bzl",
            "csrc/marlin_moe/kernel/marlin_template.h",
            "e2e/smoke/MODULE.bazel",
        ),
        "tools/marlin_gen/templates/kernels.cu.jinja",
    ):
        assert (unpacked / name).is_file(), name
    for name in (".bcr", ".ci", ".git", "bazelw", "offline", "tests"):
        assert not (unpacked / name).exists(), name
    assert not list(unpacked.glob("bazel-*"))
    assert not list(unpacked.rglob("__pycache__"))


def test_a_module_that_depends_on_the_archive_is_analysed(unpacked):
    smoke = unpacked / "e2e/smoke"
    with own_server(ROOT, smoke) as bazel:
        build(bazel, smoke, "build", "--nobuild", "//...")
        build(bazel, smoke, "build", "@marlin_moe_kernels//:defs")


def test_another_module_cannot_load_private_files(unpacked, tmp_path):
    (tmp_path / "MODULE.bazel").write_text(
        'bazel_dep(name = "marlin_moe_kernels")\n'
        f'local_path_override(module_name = "marlin_moe_kernels", path = "{unpacked}")\n'
    )
    build_file = tmp_path / "BUILD.bazel"
    with own_server(ROOT, tmp_path) as bazel:
        for source in sorted((unpacked / "private").glob("*.bzl")):
            build_file.write_text(f'load("@marlin_moe_kernels//private:{source.name}", "x")\n')
            refused = run_bazel(bazel, tmp_path, "query", "//:all")
            assert refused.returncode != 0
            assert f"//private:{source.name} is not visible for loading" in refused.stderr


def test_the_presubmit_of_the_registry_passes(unpacked):
    module = unpacked / PRESUBMIT["bcr_test_module"]["module_path"]
    (task,) = PRESUBMIT["bcr_test_module"]["tasks"].values()
    # As on the registry's machines. Actions in the sandbox have a /tmp of their own.
    flags = ["--repo_env=CUDA_PATH=/no/such/toolkit", f"--sandbox_add_mount_pair={unpacked}"]
    with own_server(ROOT, module) as bazel:
        for targets in (PRESUBMIT["tasks"]["verify_targets"], task):
            build(bazel, module, "build", *flags, *targets["build_targets"])
    generated = module / "bazel-bin/kernels"
    assert (generated / "kernel_selector.h").is_file()
    assert not list((module / "bazel-bin").rglob("*.o"))


def test_a_revision_that_does_not_exist_is_refused(checkout, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--out", str(out), "--repository", str(checkout), "--revision", "v0.0.0-none"]
    assert archive.main(given) == 1
    assert "no revision v0.0.0-none" in capsys.readouterr().err
    assert not out.exists()


def test_the_command_line_prints_the_integrity(checkout, tmp_path, capsys):
    assert archive.main(["--out", str(tmp_path / "out"), "--repository", str(checkout)]) == 0
    path, integrity = capsys.readouterr().out.split()
    assert Path(path).name == f"{PREFIX}.tar.gz"
    assert integrity.startswith("sha256-")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == [f"{PREFIX}.tar.gz"]


def test_every_place_names_the_modules_version():
    places = {
        "README.md": r'"marlin_moe_kernels", version = "(.+?)"',
        "docs/getting-started.md": r'"marlin_moe_kernels", version = "(.+?)"',
        "e2e/custom/MODULE.bazel": r'"marlin_moe_kernels", version = "(.+?)"',
        "e2e/cuda_off/MODULE.bazel": r'"marlin_moe_kernels", version = "(.+?)"',
        "e2e/smoke/MODULE.bazel": r'"marlin_moe_kernels", version = "(.+?)"',
        "python/BUILD.bazel": r'^    version = "(.+?)"',
        "python/README.md": r"marlin_moe-(.+?)-py3-none",
        "python/marlin_moe/__init__.py": r'^__version__ = "(.+?)"',
    }
    for name, pattern in places.items():
        named = re.findall(pattern, (ROOT / name).read_text(), re.MULTILINE)
        assert set(named) == {VERSION}, name
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == VERSION


def test_the_registry_files_fit_the_archive(unpacked):
    source = json.loads((ROOT / ".bcr/source.template.json").read_text())
    assert source["strip_prefix"].replace("{VERSION}", VERSION) == PREFIX
    assert source["url"].endswith("/marlin_moe_kernels-{VERSION}.tar.gz")
    metadata = json.loads((ROOT / ".bcr/metadata.template.json").read_text())
    assert metadata["maintainers"] and metadata["versions"] == []
    module = PRESUBMIT["bcr_test_module"]
    assert (unpacked / module["module_path"] / "MODULE.bazel").is_file()
    assert PRESUBMIT["matrix"] == module["matrix"]
    assert PRESUBMIT["matrix"]["bazel"] == ["7.x", "8.x", "9.x"]
