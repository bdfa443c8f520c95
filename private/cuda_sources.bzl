"""Options and requirements of all CUDA sources of this module, generated and hand-written."""

load("@rules_cuda//cuda:defs.bzl", "cuda_library", SUPPORTED_NUMBERS = "cuda_archs")
load(":archs.bzl", "ANY_FAMILY")
load(":settings.bzl", "flag_specs")

visibility("//...")

# Whatever the compilation mode, kernels are optimised and free of debug information: with it,
# objects hold absolute paths. rules_cuda's own seed is the output path, which holds the mode.
KERNEL_FEATURES = ["-dbg", "-fastbuild", "-opt", "-nvcc_fixed_random_seed"]

# -static-global-template-stub: kernels are referenced from other files. -frandom-seed and -objtemp
# together make a repeated compile byte-identical.
KERNEL_COPTS = [
    "-std=c++17",
    "-DNDEBUG",
    "-static-global-template-stub=false",
    "-frandom-seed=marlin_moe_kernels",
    "-objtemp",
]

# These spare each compile headers that it has no use for, 0.7 of 1.2 CPU seconds: cuda_runtime.h
# includes <functional> for extended lambdas, libstdc++'s <cmath> includes the special functions of
# C++17. The macro is the include guard of the latter. Other standard libraries ignore it.
LEAN_FEATURES = ["-nvcc_extended_lambda"]
LEAN_COPTS = ["-D_GLIBCXX_BITS_SPECFUN_H=1"]

# -O concerns host code alone. In generated files host code only registers kernels, and never throws.
# Without code for exceptions their objects are 7 % smaller.
HOST_OPTIMISED = ["-O3"]
STUBS_OPTIMISED = ["-O1"]
LEAN_STUBS_HOST_COPTS = ["-fno-exceptions"]

def requires_cuda():
    """Returns what a target that nvcc compiles adds to its target_compatible_with.

    No platform has these constraints. Bazel's message names them, and so says why a target is skipped.
    With clang it is skipped because the kernels' options are nvcc's.
    """
    return select({
        Label("@rules_cuda//cuda:is_enabled"): [],
        "//conditions:default": [Label(":cuda_is_enabled")],
    }) + select({
        Label("@rules_cuda//cuda:is_valid_toolchain_found"): [],
        "//conditions:default": [Label(":cuda_toolkit_is_found")],
    }) + select({
        Label("@rules_cuda//cuda:compiler_is_nvcc"): [],
        "//conditions:default": [Label(":cuda_compiler_is_nvcc")],
    })

def cuda_source_library(name, copts = [], **kwargs):
    """Declares a library of hand-written CUDA sources.

    They are compiled like the kernels, for all architectures of the flag `--cuda_archs`.

    Args:
      name: name of the target.
      copts: more options for nvcc.
      **kwargs: whatever else cuda_library() takes.
    """
    cuda_library(
        name = name,
        archs = flag_specs(ANY_FAMILY, SUPPORTED_NUMBERS),
        copts = KERNEL_COPTS + LEAN_COPTS + HOST_OPTIMISED + ["--compress-mode=size"] + copts,
        features = KERNEL_FEATURES + LEAN_FEATURES,
        target_compatible_with = requires_cuda(),
        **kwargs
    )
