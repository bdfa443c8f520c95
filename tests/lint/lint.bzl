"""Checks of the whole source tree as tests."""

load("@rules_python//python:py_test.bzl", "py_test")

def lint_test(name, check, data = [], deps = []):
    """Declares a test that runs one check of lint.py over every file of the source tree.

    The test reads the tree itself rather than its runfiles, so that it misses no file. Bazel does not
    know what it reads, so it runs outside the sandbox, and every time.

    Args:
      name: name of the test.
      check: name of the check in lint.py.
      data: label of the check's tool.
      deps: Python libraries that the check imports.
    """
    py_test(
        name = name,
        size = "medium",
        srcs = ["lint_main.py"],
        args = [check, "$(rootpath //:MODULE.bazel)"] + ["$(rootpaths {})".format(label) for label in data],
        data = data + ["//:MODULE.bazel"],
        main = "lint_main.py",
        tags = [
            "external",
            "local",
        ],
        deps = deps + [":lint"],
    )
