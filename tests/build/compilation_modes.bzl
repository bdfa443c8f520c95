"""The objects of a marlin_moe_kernels target in a given compilation mode."""

load("//:defs.bzl", "MarlinKernelsInfo")

_COMPILATION_MODE = "//command_line_option:compilation_mode"

def _mode_transition_impl(_settings, attr):
    return {_COMPILATION_MODE: attr.mode}

_mode_transition = transition(
    implementation = _mode_transition_impl,
    inputs = [],
    outputs = [_COMPILATION_MODE],
)

def _objects_in_mode_impl(ctx):
    # Runfiles tell files of two configurations apart only if their paths below bin differ.
    links = []
    for file in ctx.attr.kernels[0][OutputGroupInfo].objects.to_list():
        links.append(ctx.actions.declare_file("{}/{}".format(ctx.label.name, file.basename)))
        ctx.actions.symlink(output = links[-1], target_file = file)
    return [DefaultInfo(files = depset(links))]

objects_in_mode = rule(
    implementation = _objects_in_mode_impl,
    attrs = {
        "kernels": attr.label(
            cfg = _mode_transition,
            mandatory = True,
            providers = [MarlinKernelsInfo],
        ),
        "mode": attr.string(mandatory = True, doc = "A value of --compilation_mode."),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)
