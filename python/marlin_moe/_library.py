"""Finds and loads libmarlin_moe_ffi.so.

Looked for, in this order:

1. the file that the environment variable MARLIN_MOE_LIBRARY names,
2. beside this package, where a wheel and Bazel's runfiles have it.

The CUDA runtime that the library was linked with is taken from the loader's own places, from the
process (a framework may have loaded it), or from the NVIDIA wheels and toolkits of the machine.
Nothing is loaded before the first call, tvm-ffi included: it imports torch where that is installed.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import LibraryError, by_kind

_VARIABLE = "MARLIN_MOE_LIBRARY"
_NAME = "libmarlin_moe_ffi.so"

_lock = threading.Lock()
_loaded: Any = None


def function(name: str) -> Any:
    """Returns a function of the library, which the first call loads.

    Raises:
      LibraryError: there is no library, or not one of this package's version.
    """
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _load_module(library_path())
        try:
            return _loaded[name]
        except AttributeError:
            raise LibraryError(
                f"{library_path()} is not this package's version of {_NAME}: it has no {name}"
            ) from None


def library_path() -> Path:
    """Returns where libmarlin_moe_ffi.so is; raises LibraryError if it is nowhere."""
    named = os.environ.get(_VARIABLE)
    path = Path(named).absolute() if named else Path(__file__).parent / _NAME
    if path.is_file():
        return path
    if named:
        raise LibraryError(f"{_VARIABLE} = {named} is not a file; allowed: the path of {_NAME}")
    raise LibraryError(
        f"there is no {path}: install the wheel, depend on the Bazel target "
        f"//python/marlin_moe, or set {_VARIABLE} to the path of {_NAME}"
    )


def _load_module(path: Path) -> Any:
    try:
        import tvm_ffi
    except ImportError as error:
        raise LibraryError(
            f"{path} needs the PyPI package apache-tvm-ffi, which cannot be imported: {error}"
        ) from error
    for kind, exception in by_kind().items():
        tvm_ffi.register_error(kind, exception)
    _load(path)
    return tvm_ffi.load_module(path)


def _load(path: Path) -> None:
    """Loads the library, and before it the CUDA runtime where the loader does not find that."""
    try:
        ctypes.CDLL(str(path))
        return
    except OSError as error:
        runtime = re.match(r"(libcudart\.so\.(\d+)): ", str(error))
        if runtime is None:
            raise LibraryError(f"{path} cannot be loaded: {error}") from error
        _load_runtime(path, *runtime.groups())
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryError(f"{path} cannot be loaded: {error}") from error


def _load_runtime(path: Path, name: str, version: str) -> None:
    """Loads the CUDA runtime that the loader does not find by itself."""
    places = list(dict.fromkeys(_runtime_places(version)))
    for place in places:
        if (place / name).is_file():
            try:
                ctypes.CDLL(str(place / name), mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                raise LibraryError(f"{place / name} cannot be loaded: {error}") from error
            return
    raise LibraryError(
        f"{path} needs {name}, the CUDA {version} runtime, which is neither where the loader looks "
        f"nor in {', '.join(map(str, places))}: install the PyPI package nvidia-cuda-runtime "
        f"(nvidia-cuda-runtime-cu12 for CUDA 12) or a CUDA toolkit"
    )


def _runtime_places(version: str) -> Iterator[Path]:
    for folder in sys.path:
        packages = Path(folder or ".") / "nvidia"
        if packages.is_dir():
            yield packages / f"cu{version}" / "lib"
            yield packages / "cuda_runtime" / "lib"
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        if os.environ.get(variable):
            yield Path(os.environ[variable]) / "lib64"
    yield Path("/usr/local/cuda/lib64")
