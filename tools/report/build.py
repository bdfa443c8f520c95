"""Runs Bazel for what the report shows: the manifest, the objects, and the log of the build."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import InputError


@dataclass(frozen=True)
class Outputs:
    """What a build has made."""

    manifest: Path
    objects: tuple[Path, ...]


def full_label(target: str) -> str:
    """Returns a label with its name: //a/b:b for //a/b.

    Raises:
      InputError: it is not an absolute label.
    """
    package, _, name = target.partition(":")
    name = name or package.rpartition("/")[2]
    _, absolute, folder = package.partition("//")
    if not (absolute and name) or folder.endswith("/") or any(c.isspace() for c in target):
        raise InputError(f"--target={target!r} is not a label such as //csrc/marlin_moe:kernels")
    return f"{package}:{name}"


def build(
    workspace: Path, target: str, cuda_archs: str, output_base: Path | None, log: Path
) -> Outputs:
    """Builds a marlin_moe_kernels target; the log takes what Bazel ran for it.

    Args:
      workspace: where MODULE.bazel is.
      target: label of the target.
      cuda_archs: for the flag --cuda_archs.
      output_base: where Bazel keeps outputs, with nothing taken from a cache, so that all compiles
        have times; None: where it does for the user.
      log: file that the execution log goes to.

    Raises:
      InputError: the build fails.
    """
    bazel = [_bazel(workspace)]
    if output_base:
        bazel.append(f"--output_base={output_base}")
    choice = [target, f"--cuda_archs={cuda_archs}", "--output_groups=manifest,objects"]
    # Convenience links would be taken away from the user's own builds.
    links = "--experimental_convenience_symlinks=ignore"
    cold = ["--disk_cache=", "--noremote_accept_cached"] if output_base else []
    _run([*bazel, "build", *choice, *cold, links, f"--execution_log_json_file={log}"], workspace)
    root = Path(_run([*bazel, "info", "execution_root"], workspace, capture=True).strip())
    listed = _run([*bazel, "cquery", *choice, "--output=files"], workspace, capture=True)
    paths = [root / line for line in listed.splitlines() if line]
    manifests = [path for path in paths if path.name == "manifest.json"]
    if len(manifests) != 1:
        raise InputError(f"{target} is not a marlin_moe_kernels target: it has no manifest.json")
    return Outputs(manifests[0], tuple(path for path in paths if path.suffix == ".o"))


def _bazel(workspace: Path) -> str:
    """The workspace's own wrapper, or the Bazel on PATH."""
    wrapper = workspace / "bazelw"
    if wrapper.is_file():
        return str(wrapper)
    found = shutil.which("bazel") or shutil.which("bazelisk")
    if not found:
        raise InputError("bazel is not on PATH; give --manifest, --log and --objects of a build")
    return found


def _run(command: Sequence[str], workspace: Path, capture: bool = False) -> str:
    """Runs a command; returns what it printed if that is captured."""
    # The server of `bazel run` set these for this program alone.
    environment = {key: value for key, value in os.environ.items() if key[:6] != "BUILD_"}
    result = subprocess.run(
        command,
        cwd=workspace,
        env=environment,
        stdout=subprocess.PIPE if capture else None,
        text=True,
    )
    if result.returncode != 0:
        raise InputError(f"`{' '.join(command)}` failed with exit code {result.returncode}")
    return result.stdout or ""
