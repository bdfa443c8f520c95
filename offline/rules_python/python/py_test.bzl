"""The rule py_test."""

load("//private:rules.bzl", _py_test = "py_test")

py_test = _py_test
