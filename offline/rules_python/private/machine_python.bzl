"""A repository that makes the machine's python3 a Python toolchain."""

_OLDEST = (3, 10)

# The interpreter is an input of actions, under a name that is the same on every machine. Its standard
# library stays where the machine has it: the interpreter knows that place.
_BUILD = """
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

package(default_visibility = ["//visibility:public"])

py_runtime(
    name = "runtime",
    interpreter = "bin/python3",
    python_version = "PY3",
)

py_runtime_pair(
    name = "runtimes",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":runtimes",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def describe_python(repository_ctx):
    """Asks the python3 on PATH where it lies and which version it is.

    Args:
        repository_ctx: of a repository rule

    Returns:
        A struct of `command`, to run it with its packages, `path`, of the interpreter itself, and
        `version`, a tuple (major, minor).
    """
    command = repository_ctx.which("python3")
    if not command:
        fail("python3 is not on PATH: install it (Debian: apt install python3 python3-pip)")
    script = repository_ctx.path(Label("//private:describe_python.py"))
    result = repository_ctx.execute([command, "-I", script])
    if result.return_code:
        fail("{} does not run: {}".format(command, result.stderr))
    found = json.decode(result.stdout)
    version = tuple([int(part) for part in found["version"]])
    if version < _OLDEST:
        fail("{} is Python {}.{}; {}.{} or newer is needed on PATH".format(command, *(version + _OLDEST)))
    return struct(command = command, path = found["path"], version = version)

def _machine_python_impl(repository_ctx):
    python = describe_python(repository_ctx)
    repository_ctx.symlink(python.path, "bin/python3")
    repository_ctx.file("BUILD.bazel", _BUILD)

machine_python = repository_rule(
    doc = "A Python toolchain of the interpreter that `python3` on PATH is.",
    implementation = _machine_python_impl,
    attrs = {"wanted_versions": attr.string_list(doc = "What modules asked for; told, not obeyed.")},
    configure = True,
    environ = ["PATH"],
    local = True,
)
