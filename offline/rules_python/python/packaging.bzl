"""The rule py_wheel."""

load("//private:py_wheel.bzl", _py_wheel = "py_wheel")

py_wheel = _py_wheel
