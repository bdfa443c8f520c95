"""Python tests that run under pytest."""

load("@rules_python//python:py_test.bzl", "py_test")

def pytest_test(name, srcs, conftest = [], deps = [], **kwargs):
    """Declares a test that runs pytest on its sources; no test in them is a failure.

    Args:
      name: name of the target.
      srcs: the test files.
      conftest: conftest.py, where the tests need one.
      deps: Python libraries that the tests import, besides pytest and hypothesis.
      **kwargs: whatever else py_test() takes.
    """
    py_test(
        name = name,
        srcs = srcs + conftest + ["//tests:pytest_main.py"],
        args = ["$(rootpath {})".format(src) for src in srcs],
        main = "//tests:pytest_main.py",
        deps = deps + [
            "@marlin_dev_deps//hypothesis",
            "@marlin_dev_deps//pytest",
        ],
        **kwargs
    )
