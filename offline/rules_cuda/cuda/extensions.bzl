"""The module extension `toolchain`: the CUDA toolkit as a repository."""

load("//cuda/private:toolkit.bzl", "cuda_toolkit")

def _toolchain_impl(module_ctx):
    ours = None
    root = None
    for module in module_ctx.modules:
        if module.is_root:
            root = module
        if module.name == "rules_cuda":
            ours = module

    # Only the root module configures the toolkit. If it does not, the default of this module holds.
    tags = root.tags.toolkit if root and root.tags.toolkit else ours.tags.toolkit
    toolkits = {tag.name: tag.toolkit_path for tag in tags}
    if len(toolkits) != 1 or len(tags) != len({(tag.name, tag.toolkit_path): None for tag in tags}):
        fail("multiple cuda.toolkit is not supported: {}".format(toolkits))
    for name, path in toolkits.items():
        cuda_toolkit(name = name, toolkit_path = path)

toolchain = module_extension(
    doc = "Makes the repository @cuda of a CUDA toolkit on this machine.",
    implementation = _toolchain_impl,
    tag_classes = {
        "toolkit": tag_class(attrs = {
            "name": attr.string(default = "cuda"),
            "toolkit_path": attr.string(doc = "Root of the toolkit; empty: CUDA_PATH, PATH or /usr/local/cuda."),
        }),
    },
)
