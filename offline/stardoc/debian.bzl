"""A repository with Stardoc's renderer and templates, fetched by apt, and with a Java runtime."""

_PACKAGE = "usr/share/bazel/tools/stardoc/stardoc"
_JAVA = "MARLIN_JAVA_HOME"

_BUILD = """
package(default_visibility = ["//visibility:public"])

exports_files([
    "jdk/bin/java",
    "renderer_prebuilt.jar",
])

filegroup(
    name = "java_runtime",
    srcs = glob(["jdk/**"]),
)

filegroup(
    name = "templates",
    srcs = glob(["templates/*.vm"]),
)
"""

def _debian_stardoc_impl(repository_ctx):
    python = repository_ctx.which("python3")
    java = repository_ctx.os.environ.get(_JAVA)
    if not python or not java:
        fail("This stand-in needs python3 on PATH and {}: run Bazel through ./bazelw".format(_JAVA))

    # The bootstrap's sources beside this folder know the machine's mirror.
    offline = repository_ctx.path(Label("//:debian.bzl")).realpath.dirname.dirname
    repository_ctx.report_progress("Downloading Stardoc")
    result = repository_ctx.execute(
        [python, "-I", offline.get_child("debian_package.py"), "bazel-stardoc", repository_ctx.path("")],
        environment = {"PYTHONDONTWRITEBYTECODE": "1"},
        timeout = 600,
    )
    if result.return_code:
        fail(result.stderr)
    repository_ctx.symlink(java, "jdk")
    repository_ctx.symlink(_PACKAGE + "/renderer_prebuilt.jar", "renderer_prebuilt.jar")
    repository_ctx.symlink(_PACKAGE + "/templates/markdown_tables", "templates")
    repository_ctx.delete("apt")
    repository_ctx.delete("usr/share/bazel/tools/stardoc/stardoc/BUILD")
    repository_ctx.file("BUILD.bazel", _BUILD)

debian_stardoc = repository_rule(
    doc = "Downloads Stardoc.",
    implementation = _debian_stardoc_impl,
    environ = [
        "MARLIN_DEBIAN_MIRROR",
        "PATH",
        _JAVA,
    ],
)

debian = module_extension(
    doc = "Makes the repository debian_stardoc.",
    implementation = lambda module_ctx: debian_stardoc(name = "debian_stardoc"),
)
