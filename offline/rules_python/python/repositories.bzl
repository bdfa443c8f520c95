"""What WORKSPACE calls in the place of the module extension `python`."""

load("//private:machine_python.bzl", "machine_python")

def py_repositories():
    """Nothing: the rules are Bazel's own."""

# buildifier: disable=unnamed-macro
def python_register_toolchains(name, python_version):
    """Whatever version is asked for, registers the machine's python3.

    Args:
        name: of the repository
        python_version: told, not obeyed
    """
    machine_python(name = name, wanted_versions = [python_version])
    native.register_toolchains("@{}//:toolchain".format(name))
