"""Public API: Marlin MoE kernels as a Bazel target."""

load("//private:kernels.bzl", _marlin_moe_kernels = "marlin_moe_kernels")
load("//private:providers.bzl", _MarlinKernelsInfo = "MarlinKernelsInfo")
load("//private:quant_scheme.bzl", _quant_scheme = "quant_scheme")

marlin_moe_kernels = _marlin_moe_kernels
quant_scheme = _quant_scheme
MarlinKernelsInfo = _MarlinKernelsInfo
