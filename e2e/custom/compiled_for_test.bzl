"""Checks which architectures the kernels of a target are compiled for."""

load("@bazel_skylib//lib:unittest.bzl", "analysistest", "asserts")
load("@marlin_moe_kernels//:defs.bzl", "MarlinKernelsInfo")

def _compiled_for_impl(ctx):
    env = analysistest.begin(ctx)
    info = analysistest.target_under_test(env)[MarlinKernelsInfo]
    asserts.equals(env, ["sm80"], info.families)
    asserts.equals(env, ["custom_int4"], info.schemes)
    asserts.equals(env, ctx.attr.specs, info.specs["sm80"])
    return analysistest.end(env)

compiled_for_test = analysistest.make(
    _compiled_for_impl,
    attrs = {"specs": attr.string_list(mandatory = True)},
    config_settings = {str(Label("@marlin_moe_kernels//:cuda_archs")): "9.0"},
)
