"""The Python rules of Bazel 7. They accept attributes of newer rules, and drop them."""

# buildifier: disable=native-python
_NATIVE = struct(binary = native.py_binary, library = native.py_library, test = native.py_test)

def _arguments(kwargs):
    """Drops what chooses an interpreter: here there is only the machine's."""
    return {name: value for name, value in kwargs.items() if name != "python_version"}

def py_binary(**kwargs):
    """A Python program.

    Args:
        **kwargs: attributes of Bazel's py_binary, and python_version
    """
    _NATIVE.binary(**_arguments(kwargs))

def py_library(**kwargs):
    """A library of Python modules.

    Args:
        **kwargs: attributes of Bazel's py_library
    """
    _NATIVE.library(**kwargs)

def py_test(**kwargs):
    """A Python program that is a test.

    Args:
        **kwargs: attributes of Bazel's py_test, and python_version
    """
    _NATIVE.test(**_arguments(kwargs))

NativePyInfo = PyInfo
