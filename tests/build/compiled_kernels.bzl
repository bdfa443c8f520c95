"""Tests that compiled objects are what the rule says."""

load("@rules_python//python:py_test.bzl", "py_test")
load("//:defs.bzl", "MarlinKernelsInfo")

def _compiled_kernels_impl(ctx):
    kernels = ctx.attr.kernels
    info = kernels[MarlinKernelsInfo]
    objects = kernels[OutputGroupInfo].objects
    description = ctx.actions.declare_file(ctx.label.name + ".json")
    ctx.actions.write(description, json.encode({
        "manifest": info.manifest.short_path,
        "objects": [file.short_path for file in objects.to_list()],
        "sources": [file.basename for file in info.sources.to_list()],
        "specs": info.specs,
    }))
    return [DefaultInfo(
        files = depset([description]),
        runfiles = ctx.runfiles([description, info.manifest], transitive_files = objects),
    )]

_compiled_kernels = rule(
    implementation = _compiled_kernels_impl,
    attrs = {"kernels": attr.label(mandatory = True, providers = [MarlinKernelsInfo])},
    doc = "Writes where the objects of a marlin_moe_kernels target are and what they should hold.",
)

def cubins_test(name, kernels, specs = {}, **kwargs):
    """Checks that each object holds the cubins, the PTX and the kernels that it should.

    Args:
      name: name of the test.
      kernels: a marlin_moe_kernels target.
      specs: the expected MarlinKernelsInfo.specs of these families.
      **kwargs: whatever else py_test() takes.
    """
    description = name + ".objects"
    _compiled_kernels(
        name = description,
        testonly = True,
        kernels = kernels,
        tags = ["manual"],
    )
    py_test(
        name = name,
        srcs = ["cubins_test.py"],
        args = ["$(rootpath {})".format(description)] + [
            "{}={}".format(family, ",".join(family_specs))
            for family, family_specs in specs.items()
        ],
        data = [description],
        main = "cubins_test.py",
        deps = ["//tools/report:cuobjdump"],
        **kwargs
    )
