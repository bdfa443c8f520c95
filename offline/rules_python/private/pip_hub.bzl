"""A repository of the Python packages that a lock file pins, each in a package of its own."""

load("//private:machine_python.bzl", "describe_python")

_REQUIREMENTS_BZL = """\"\"\"Labels of the packages in this hub.\"\"\"

def requirement(name):
    \"\"\"The label of a package's library.

    Args:
        name: name of the package, in any spelling that pip understands

    Returns:
        A label.
    \"\"\"
    for separator in "-.":
        name = name.replace(separator, "_")
    return Label("//" + name.lower() + ":pkg")

def install_deps(**_kwargs):
    \"\"\"Nothing, for WORKSPACE: the packages are in this repository already.\"\"\"
"""

def _nearest(locks, version):
    """The lock file for a Python version, or the one for the version nearest to it."""
    nearest = None
    for key, label in locks.items():
        minor = int(key.split(".")[1])
        distance = abs(minor - version[1])
        if nearest == None or distance < nearest[0]:
            nearest = (distance, label)
    return Label(nearest[1])

def _pip_hub_impl(repository_ctx):
    python = describe_python(repository_ctx)
    lock = repository_ctx.path(_nearest(repository_ctx.attr.locks, python.version))
    repository_ctx.watch(lock)
    pip = [python.command, "-I", "-m", "pip", "--disable-pip-version-check"]
    download = pip + [
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--dest=wheels",
        "--requirement=" + str(lock),
    ]
    repository_ctx.report_progress("Downloading Python packages")
    result = repository_ctx.execute(download, timeout = 1800)
    if result.return_code:
        fail("pip could not download what {} pins for Python {}.{}.\n{}{}\n{}".format(
            lock,
            python.version[0],
            python.version[1],
            result.stdout,
            result.stderr,
            "Check that pip is installed (apt install python3-pip), that it reaches its index, " +
            "and that the lock file has a wheel for this Python.",
        ))
    unpack = repository_ctx.path(Label("//private:unpack_wheels.py"))
    result = repository_ctx.execute([python.command, "-I", unpack, "wheels", lock])
    if result.return_code:
        fail("The Python packages of {} could not be unpacked.\n{}".format(lock, result.stderr))
    repository_ctx.delete("wheels")
    repository_ctx.file("BUILD.bazel", 'exports_files(["requirements.bzl"])\n')
    repository_ctx.file("requirements.bzl", _REQUIREMENTS_BZL)

pip_hub = repository_rule(
    doc = "Downloads wheels, checks their hashes, unpacks them, and describes them to Bazel.",
    implementation = _pip_hub_impl,
    attrs = {
        "hub_name": attr.string(doc = "Name that the module gave to the hub."),
        "locks": attr.string_dict(doc = "Lock file by Python version.", mandatory = True),
    },
    environ = ["PATH", "PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_INDEX_URL"],
)
