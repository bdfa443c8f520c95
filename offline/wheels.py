"""Downloads wheels pinned by hash through pip, and unpacks them without installing anything."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from errors import BootstrapError


def unpack(requirements: Path, destination: Path) -> None:
    """Unpacks every wheel that a requirements file pins into one directory.

    Args:
        requirements: file of `name==version --hash=sha256:…` lines
        destination: directory that receives the wheels' contents; created if it is missing

    Raises:
        BootstrapError: pip is missing, cannot reach its index, or finds another hash.
    """
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=destination.parent) as folder:
        _download(requirements, Path(folder))
        for wheel in sorted(Path(folder).glob("*.whl")):
            _extract(wheel, destination)


def _download(requirements: Path, folder: Path) -> None:
    command = [
        *(sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--dest", str(folder), "--requirement", str(requirements)),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise BootstrapError(
            f"pip could not download the wheels that {requirements.name} pins.",
            tried=" ".join(command),
            said=result.stderr,
            advice="Install pip for this python3 (Debian: apt install python3-pip) and check that "
            "its package index is reachable (pip config list, PIP_INDEX_URL, proxies).",
        )


def _extract(wheel: Path, destination: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, destination))
            mode = entry.external_attr >> 16
            # Wheels made without Unix modes lose the x bit that installers give back to programs.
            if path.is_file() and (mode & 0o111 or path.parent.name in ("bin", "scripts")):
                path.chmod(0o755)
