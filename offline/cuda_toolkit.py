"""Assembles a CUDA toolkit from NVIDIA's wheels, for machines that have none."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import wheels
from errors import BootstrapError


def assemble(work: Path, requirements: Path, say: Callable[[str], None]) -> None:
    """Fills `work` with the folders of a CUDA toolkit: bin, include, lib64, nvvm."""
    work.mkdir()
    say("downloading the CUDA compiler and runtime (about 100 MB)")
    wheels.unpack(requirements, work / "wheels")
    for part in sorted((work / "wheels/nvidia/cu13").iterdir()):
        shutil.move(part, work / part.name)
    shutil.rmtree(work / "wheels")
    (work / "lib64").symlink_to("lib")
    for library in sorted((work / "lib").glob("*.so.*")):
        # Wheels carry no links; linkers look for the name without a version.
        (work / "lib" / library.name.split(".so")[0]).with_suffix(".so").symlink_to(library.name)


def try_out(prefix: Path) -> None:
    """Compiles an empty kernel, so that a missing part shows here and not in a build."""
    trial = prefix / "trial"
    trial.mkdir()
    source = trial / "trial.cu"
    source.write_text(
        "#include <cuda_fp16.h>\n__global__ void trial(__half* x) { *x = __half(1); }\n"
    )
    command = [str(prefix / "bin/nvcc"), "-c", source.name, "-o", "trial.o", "-arch=sm_80"]
    try:
        result = subprocess.run(command, cwd=trial, capture_output=True, text=True, timeout=120)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    if result.returncode != 0:
        raise BootstrapError(
            "The CUDA toolkit that was set up does not compile.",
            tried=" ".join(command),
            said=result.stdout + result.stderr,
            advice="Check that gcc and its C++ headers are installed and supported by this nvcc, "
            "or install a CUDA toolkit and name its folder in CUDA_PATH.",
        )
