"""Finds, loads and calls libmarlin_moe.so.

Looked for, in this order:

1. the file that the environment variable MARLIN_MOE_LIBRARY names,
2. beside this package, where a wheel and Bazel's runfiles have it.

The CUDA runtime that the library was linked with is taken from the loader's own places, from the
process (a framework may have loaded it), or from the NVIDIA wheels and toolkits of the machine.
Nothing is loaded before the first call.
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

from . import _abi
from .errors import (
    CudaError,
    InsufficientWorkspaceError,
    InvalidArgumentError,
    LibraryError,
    MarlinMoeError,
    NoKernelError,
)

_VARIABLE = "MARLIN_MOE_LIBRARY"
_NAME = "libmarlin_moe.so"
_EXCEPTIONS: dict[int, type[MarlinMoeError]] = {
    _abi.INVALID_ARGUMENT: InvalidArgumentError,
    _abi.INSUFFICIENT_WORKSPACE: InsufficientWorkspaceError,
    _abi.NO_KERNEL: NoKernelError,
    _abi.CUDA_ERROR: CudaError,
}


class Library:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        """Loads the library; raises LibraryError if that fails."""
        self.path = path
        self._cdll = _load(path)
        try:
            self._functions = {name: self._function(name) for name in _abi.FUNCTIONS}
            self._block_size = self._cdll.marlin_moe_gemm_block_size
            self._last_error = self._cdll.marlin_moe_last_error
        except AttributeError as error:
            raise LibraryError(
                f"{path} is not this package's version of {_NAME}: {error}"
            ) from None
        self._block_size.argtypes = [ctypes.c_int32] * 4
        self._block_size.restype = ctypes.c_int32
        self._last_error.argtypes = []
        self._last_error.restype = ctypes.c_char_p

    def _function(self, name: str) -> Any:
        function = getattr(self._cdll, f"marlin_moe_{name}")
        function.argtypes = _abi.FUNCTIONS[name]
        function.restype = ctypes.c_int
        return function

    def call(
        self, function: str, *arguments: ctypes.Structure | ctypes._SimpleCData[Any] | None
    ) -> None:
        """Calls a function with its arguments by reference, None being a null pointer.

        Raises:
          MarlinMoeError: the one of the status that the function returned, with its message.
        """
        passed = [None if value is None else ctypes.byref(value) for value in arguments]
        status = self._functions[function](*passed)
        if status != _abi.OK:
            message = (self._last_error() or b"").decode(errors="replace")
            raise _EXCEPTIONS.get(status, MarlinMoeError)(message or f"status {status}")

    def block_size(self, m: int, num_experts: int, top_k: int, a_type: int) -> int:
        """Returns marlin_moe_gemm_block_size(); raises InvalidArgumentError if it has none."""
        for name, given in (("m", m), ("num_experts", num_experts), ("top_k", top_k)):
            _abi.check_int32(name, given)
        size = int(self._block_size(m, num_experts, top_k, a_type))
        if size == 0:
            raise InvalidArgumentError((self._last_error() or b"").decode(errors="replace"))
        return size


_lock = threading.Lock()
_loaded: Library | None = None


def library() -> Library:
    """Returns the library, which the first call loads; raises LibraryError if there is none."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = Library(library_path())
    return _loaded


def library_path() -> Path:
    """Returns where libmarlin_moe.so is; raises LibraryError if it is nowhere."""
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


def _load(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        runtime = re.match(r"(libcudart\.so\.(\d+)): ", str(error))
        if runtime is None:
            raise LibraryError(f"{path} cannot be loaded: {error}") from error
        _load_runtime(path, *runtime.groups())
    try:
        return ctypes.CDLL(str(path))
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
