"""What calls raise: one exception for each status of the library, and one of the package's own."""

from __future__ import annotations


class MarlinMoeError(Exception):
    """Anything that this package refuses or that fails below it."""


class InvalidArgumentError(MarlinMoeError, ValueError):
    """A wrong tensor, shape, type, stride, device or number; the message says what is allowed."""


class InsufficientWorkspaceError(MarlinMoeError, ValueError):
    """Scratch memory is smaller than what the call needs."""


class NoKernelError(MarlinMoeError, RuntimeError):
    """The library holds no kernel for these types, this tile or this device."""


class CudaError(MarlinMoeError, RuntimeError):
    """CUDA reported an error, or there is no driver or device."""


class LibraryError(MarlinMoeError, OSError):
    """The library cannot be found or loaded, or is not of this package's version."""


def by_kind() -> dict[str, type[MarlinMoeError]]:
    """Returns the exceptions by the kinds of error that the library throws."""
    kinds = (InvalidArgumentError, InsufficientWorkspaceError, NoKernelError, CudaError)
    return {f"marlin_moe.{kind.__name__}": kind for kind in kinds}


def invalid(argument: str, given: object, allowed: str) -> InvalidArgumentError:
    """Returns the error of a refused argument, in the library's own words."""
    return InvalidArgumentError(f"{argument} = {given} is not allowed; allowed: {allowed}")
