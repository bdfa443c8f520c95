"""The tool cuobjdump, out of its wheel."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path


def unpack(folder: Path) -> Path:
    """Copies the tool into a folder and returns it, executable as files of a wheel may not be."""
    site_packages = importlib.metadata.distribution("nvidia-cuda-cuobjdump").locate_file("")
    (packaged,) = Path(str(site_packages)).glob("nvidia/*/bin/cuobjdump")
    tool = folder / "cuobjdump"
    shutil.copyfile(packaged, tool)
    tool.chmod(0o755)
    return tool
