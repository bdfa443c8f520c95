"""The Python rules that Bazel 7 carries, with attributes of newer ones accepted and dropped."""

# buildifier: disable=native-python
_NATIVE = struct(binary = native.py_binary, library = native.py_library, test = native.py_test)

def _arguments(kwargs):
    """Drops what only chooses among interpreters: here the machine's is the only one."""
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
