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

# What ./bazelw reads of the environment: where caches are, how to reach the network, the toolkit.
_BAZELW_ENVIRONMENT = [
    "BAZELISK_HOME",
    "CUDA_PATH",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "MARLIN_BAZELW",
    "MARLIN_CUDA_FROM_WHEELS",
    "NO_PROXY",
    "PATH",
    "XDG_CACHE_HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
]

def source_tree_test(name, srcs, runs_bazel = False, deps = [], tags = [], **kwargs):
    """Declares a pytest_test() that reads the source tree itself rather than declared inputs.

    Bazel does not know what it reads, so it runs outside the sandbox, and every time. The environment
    variable TOP_LEVEL_FILE leads it to the tree: see find_root() of //tests/lint:workspace.

    Args:
      name: name of the target.
      srcs: the test files.
      runs_bazel: whether it starts ./bazelw, and needs the variables that this reads.
      deps: Python libraries that the tests import, besides workspace, pytest and hypothesis.
      tags: as for any rule.
      **kwargs: whatever else pytest_test() takes.
    """
    pytest_test(
        name = name,
        srcs = srcs,
        data = ["//:MODULE.bazel"],
        env = {"TOP_LEVEL_FILE": "$(rootpath //:MODULE.bazel)"},
        env_inherit = _BAZELW_ENVIRONMENT if runs_bazel else [],
        tags = tags + [
            "external",
            "local",
        ],
        deps = deps + ["//tests/lint:workspace"],
        **kwargs
    )
