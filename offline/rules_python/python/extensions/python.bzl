"""The module extension `python`: toolchains over the machine's python3."""

load("//private:machine_python.bzl", "machine_python")

def _python_impl(module_ctx):
    wanted = {}
    for module in module_ctx.modules:
        for tag in module.tags.toolchain:
            wanted[tag.python_version] = None
    machine_python(name = "machine_python", wanted_versions = sorted(wanted))

python = module_extension(
    doc = "A toolchain of the machine's python3, whatever versions the modules ask for.",
    implementation = _python_impl,
    tag_classes = {
        "defaults": tag_class(attrs = {"python_version": attr.string()}),
        "toolchain": tag_class(attrs = {
            "configure_coverage_tool": attr.bool(),
            "ignore_root_user_error": attr.bool(),
            "is_default": attr.bool(),
            "python_version": attr.string(mandatory = True),
        }),
    },
)
