"""The rule py_binary."""

load("//private:rules.bzl", _py_binary = "py_binary")

py_binary = _py_binary
