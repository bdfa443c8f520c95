"""What WORKSPACE calls in the place of the module extension `python`."""

load("//private:machine_python.bzl", "machine_python")

def py_repositories():
    """Nothing: the rules are Bazel's own."""

# buildifier: disable=unnamed-macro
def python_register_toolchains(name, python_version):
    """Registers the machine's python3, whatever version is asked for.

    Args:
        name: of the repository
        python_version: ignored
    """
    machine_python(name = name, wanted_versions = [python_version])
    native.register_toolchains("@{}//:toolchain".format(name))
