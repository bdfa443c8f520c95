"""Another CUDA context on the device that PyTorch uses, which was told nothing of any kernel."""

from __future__ import annotations

import ctypes
from types import TracebackType

import torch


class DriverError(RuntimeError):
    """A function of the CUDA driver did not succeed."""


class SecondContext:
    """A context that is current between enter and exit, and its memory.

    PyTorch works on its own context, so tensors that it hands over have to be on the CPU.
    """

    def __init__(self, device: int = 0) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._context = ctypes.c_void_p()
        self._device = device

    def _call(self, function: str, *args: object) -> None:
        code = getattr(self._cuda, function)(*args)
        if code != 0:
            raise DriverError(f"{function} returned {code}")

    def __enter__(self) -> SecondContext:
        self._call("cuCtxCreate_v2", ctypes.byref(self._context), 0, self._device)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call("cuCtxDestroy_v2", self._context)

    def copy(self, tensor: torch.Tensor) -> int:
        """Copies a tensor of the CPU to the device; returns the address there."""
        size = max(1, tensor.nbytes)
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        source = ctypes.c_void_p(tensor.data_ptr())
        self._call("cuMemcpyHtoD_v2", address, source, ctypes.c_size_t(tensor.nbytes))
        return address.value

    def read(self, address: int, like: torch.Tensor) -> torch.Tensor:
        """Waits for the device, and returns what is there in the form of a tensor of the CPU."""
        self._call("cuCtxSynchronize")
        out = torch.empty_like(like)
        to = ctypes.c_void_p(out.data_ptr())
        size = ctypes.c_size_t(out.nbytes)
        self._call("cuMemcpyDtoH_v2", to, ctypes.c_uint64(address), size)
        return out
