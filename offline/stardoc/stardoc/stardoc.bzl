"""The macro stardoc, over Bazel's own extraction of docstrings and Stardoc's own renderer."""

_KINDS = [
    "aspect",
    "func",
    "header",
    "macro",
    "module_extension",
    "provider",
    "repository_rule",
    "rule",
]

def _rendered_impl(ctx):
    templates = {file.basename: file for file in ctx.files._templates}
    args = ctx.actions.args()
    args.add("--sun-misc-unsafe-memory-access=allow")  # or Java warns of the jar's protobuf
    args.add("-jar", ctx.file._renderer)
    args.add(ctx.file.src, format = "--input=%s")
    args.add(ctx.outputs.out, format = "--output=%s")
    for kind in _KINDS:
        args.add(templates[kind + ".vm"], format = "--{}_template=%s".format(kind))
    ctx.actions.run(
        arguments = [args],
        executable = ctx.file._java,
        inputs = depset([ctx.file.src, ctx.file._renderer] + ctx.files._templates),
        mnemonic = "Renderer",
        outputs = [ctx.outputs.out],
        progress_message = "Rendering %{label}",
        toolchain = None,
        tools = ctx.files._java_runtime,
    )
    return [DefaultInfo(files = depset([ctx.outputs.out]))]

_rendered = rule(
    implementation = _rendered_impl,
    attrs = {
        "out": attr.output(mandatory = True, doc = "The Markdown file."),
        "src": attr.label(
            allow_single_file = [".binaryproto"],
            mandatory = True,
            doc = "What starlark_doc_extract wrote.",
        ),
        "_java": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "@debian_stardoc//:jdk/bin/java",
        ),
        "_java_runtime": attr.label(cfg = "exec", default = "@debian_stardoc//:java_runtime"),
        "_renderer": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "@debian_stardoc//:renderer_prebuilt.jar",
        ),
        "_templates": attr.label(default = "@debian_stardoc//:templates"),
    },
    doc = "Renders extracted docstrings as Markdown.",
)

def stardoc(name, input, out, deps = [], symbol_names = [], **kwargs):
    """Writes the documentation of a Starlark file.

    Args:
        name: name of the target
        input: the Starlark file
        out: the Markdown file to write
        deps: bzl_library targets of all that the file loads
        symbol_names: what to document; default: everything public
        **kwargs: attributes that every rule has
    """
    native.starlark_doc_extract(
        name = name + ".extract",
        src = input,
        deps = deps,
        render_main_repo_name = True,
        symbol_names = symbol_names,
        tags = ["manual"],
        visibility = ["//visibility:private"],
    )
    _rendered(
        name = name,
        src = name + ".extract.binaryproto",
        out = out,
        **kwargs
    )
