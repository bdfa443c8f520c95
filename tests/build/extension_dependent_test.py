"""Kernels can be linked into a shared object that Python loads."""

import ctypes
import sys

if __name__ == "__main__":
    library = ctypes.CDLL(sys.argv[1])
    assert library.wrapped_has_kernel(256, 4, 4) == 1
    assert library.wrapped_has_kernel(128, 4, 4) == 0
