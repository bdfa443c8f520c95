"""The rule py_library."""

load("//private:rules.bzl", _py_library = "py_library")

py_library = _py_library
