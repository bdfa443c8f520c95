"""The repository @cuda: a CUDA toolkit on this machine, described to Bazel."""

def _find_toolkit(repository_ctx):
    """The toolkit's root: from the attribute, CUDA_PATH, ptxas on PATH, or the usual place."""
    path = repository_ctx.attr.toolkit_path or repository_ctx.getenv("CUDA_PATH")
    if not path:
        ptxas = repository_ctx.which("ptxas")
        path = str(ptxas.dirname.dirname) if ptxas else "/usr/local/cuda"
    root = repository_ctx.path(path)
    return root if root.get_child("bin", "nvcc").exists else None

def _cuda_toolkit_impl(repository_ctx):
    root = _find_toolkit(repository_ctx)
    if root:
        repository_ctx.symlink(root, "cuda")
    repository_ctx.template(
        "BUILD.bazel",
        Label("//cuda/private:toolkit.BUILD" if root else "//cuda/private:no_toolkit.BUILD"),
    )
    repository_ctx.template(
        "toolchain/BUILD.bazel",
        Label("//cuda/private:toolchain.BUILD"),
        substitutions = {"%{nvcc}": "@cuda//:cuda/bin/nvcc" if root else ""},
    )

cuda_toolkit = repository_rule(
    doc = "Links a CUDA toolkit of this machine into a repository.",
    implementation = _cuda_toolkit_impl,
    attrs = {"toolkit_path": attr.string(doc = "Root of the toolkit; empty: look for it.")},
    configure = True,
    environ = ["CUDA_PATH", "PATH"],
    local = True,
)
