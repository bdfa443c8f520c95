"""The few functions of the CUDA driver that the package needs around the library's calls.

They make a tensor's device current for a call, zero workspaces, order streams and tell the device
of a pointer, without any framework.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_void_p
from typing import Any

from .errors import CudaError

_NAME = "libcuda.so.1"
_SUCCESS = 0
_INVALID_CONTEXT = 201
_ATTRIBUTE_DEVICE_ORDINAL = 9
_EVENT_DISABLE_TIMING = 2

_FUNCTIONS: dict[str, list[Any]] = {
    "cuInit": [c_uint],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
    "cuCtxGetDevice": [POINTER(c_int)],
    "cuCtxPushCurrent_v2": [c_void_p],
    "cuCtxPopCurrent_v2": [POINTER(c_void_p)],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuPointerGetAttribute": [c_void_p, c_int, c_void_p],
    "cuMemsetD8Async": [c_void_p, ctypes.c_ubyte, c_size_t, c_void_p],
    "cuEventCreate": [POINTER(c_void_p), c_uint],
    "cuEventRecord": [c_void_p, c_void_p],
    "cuEventDestroy_v2": [c_void_p],
    "cuStreamWaitEvent": [c_void_p, c_void_p, c_uint],
}


class Driver:
    """The driver of a machine with a GPU."""

    def __init__(self, name: str = _NAME) -> None:
        """Loads and initialises the driver; raises CudaError if there is none or no device."""
        try:
            self._cdll = ctypes.CDLL(name)
        except OSError as error:
            raise CudaError(
                f"the NVIDIA driver's library {name} cannot be loaded ({error}): calls need a "
                "machine with an NVIDIA GPU and its driver"
            ) from None
        for function, parameters in _FUNCTIONS.items():
            getattr(self._cdll, function).argtypes = parameters
        self._contexts: dict[int, c_void_p] = {}
        self._call("cuInit", 0)

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._cdll, function)(*arguments)
        if code != _SUCCESS:
            raise CudaError(f"{function}: {self._message(code)}")

    def _message(self, code: int) -> str:
        message = c_char_p()
        self._cdll.cuGetErrorString(code, ctypes.byref(message))
        return (message.value or b"error %d" % code).decode()

    @contextmanager
    def device(self, device: int) -> Iterator[None]:
        """Makes a device current for this thread while the block runs."""
        current = c_int(-1)
        code = self._cdll.cuCtxGetDevice(ctypes.byref(current))
        if code == _SUCCESS and current.value == device:
            yield
            return
        if code not in (_SUCCESS, _INVALID_CONTEXT):
            raise CudaError(f"cuCtxGetDevice: {self._message(code)}")
        self._call("cuCtxPushCurrent_v2", self._primary_context(device))
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(c_void_p()))

    def _primary_context(self, device: int) -> c_void_p:
        """Returns the context that CUDA's runtime uses for a device; it is kept for good."""
        if device not in self._contexts:
            context = c_void_p()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self._contexts[device] = context
        return self._contexts[device]

    def device_of(self, pointer: int) -> int:
        """Returns the device that a pointer's memory is on."""
        device = c_int(-1)
        self._call(
            "cuPointerGetAttribute", ctypes.byref(device), _ATTRIBUTE_DEVICE_ORDINAL, pointer
        )
        return device.value

    def zero(self, pointer: int, size: int, stream: int) -> None:
        """Enqueues zeroing some bytes on a stream of the current device."""
        self._call("cuMemsetD8Async", pointer, 0, size, stream)

    def wait(self, stream: int, awaited: int) -> None:
        """Makes a stream wait for what is enqueued on another one now."""
        event = c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), _EVENT_DISABLE_TIMING)
        try:
            self._call("cuEventRecord", event, awaited)
            self._call("cuStreamWaitEvent", stream, event, 0)
        finally:
            self._call("cuEventDestroy_v2", event)


_lock = threading.Lock()
_loaded: Driver | None = None


def driver() -> Driver:
    """Returns the driver, which the first call loads; raises CudaError if there is none."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = Driver(_NAME)
    return _loaded
