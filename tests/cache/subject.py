"""What the cache tests build, and what of its outputs they look at."""

PACKAGE = "tests/cache/subject"
BUILD_FILE = f"{PACKAGE}/BUILD.bazel"

KERNELS = f"//{PACKAGE}:kernels"

# Kernels, the launcher around them, a shared library of both, and the generator.
TARGETS = (
    KERNELS,
    "//csrc/marlin_moe:moe_gemm",
    f"//{PACKAGE}:launcher",
    "//tools/marlin_gen:generator",
)
OPTIONS = (f"--//csrc/marlin_moe:kernel_set={KERNELS}",)
PACKAGES = (PACKAGE, "csrc/marlin_moe", "tools/marlin_gen")
