"""The toolchain of nvcc."""

_TYPE = Label("//cuda:toolchain_type")

def _cuda_toolchain_impl(ctx):
    if not ctx.file.compiler_label:
        fail("nvcc of cuda toolkit does not exist")
    return platform_common.ToolchainInfo(
        compiler_executable = ctx.file.compiler_label.path,
        all_files = depset(transitive = [files.files for files in ctx.attr.compiler_files]),
        bin_directory = ctx.file.compiler_label.dirname,
    )

cuda_toolchain = rule(
    doc = "nvcc, and the files of the toolkit that it reads.",
    implementation = _cuda_toolchain_impl,
    attrs = {
        "compiler_files": attr.label_list(
            doc = "The compiler's programs, libraries and headers.",
            allow_files = True,
            cfg = "exec",
        ),
        "compiler_label": attr.label(
            doc = "nvcc; none if the machine has no toolkit: then nothing can be compiled.",
            allow_single_file = True,
            cfg = "exec",
        ),
    },
)

def use_cuda_toolchain():
    """The toolchains that a rule must declare to compile CUDA.

    Returns:
        A value for the argument toolchains of rule().
    """
    return [_TYPE]

def find_cuda_toolchain(ctx):
    """The toolchain of a rule that declares `use_cuda_toolchain()`.

    Args:
        ctx: of the rule

    Returns:
        ToolchainInfo
    """
    return ctx.toolchains[_TYPE]
