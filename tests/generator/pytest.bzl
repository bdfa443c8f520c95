"""Python tests that run under pytest."""

load("@rules_python//python:py_test.bzl", "py_test")

def pytest_test(name, srcs, data = [], deps = [], **kwargs):
    """Declares a test that runs pytest on its sources; no test in them is a failure.

    Args:
      name: name of the target.
      srcs: the test files. conftest.py comes with each.
      data: files that the tests read.
      deps: Python libraries that the tests import, besides the generator, pytest and hypothesis.
      **kwargs: whatever else py_test() takes.
    """
    py_test(
        name = name,
        srcs = srcs + [
            "conftest.py",
            "pytest_main.py",
        ],
        args = ["$(rootpath {})".format(src) for src in srcs],
        data = data,
        main = "pytest_main.py",
        deps = deps + [
            "//tools/marlin_gen",
            "@marlin_dev_deps//hypothesis",
            "@marlin_dev_deps//pytest",
        ],
        **kwargs
    )
