"""The C++ headers and the shared library of apache-tvm-ffi, out of its wheel."""

load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

visibility("private")

_INCLUDE = "/site-packages/tvm_ffi/include/"
_LIBRARY = "/site-packages/tvm_ffi/lib/libtvm_ffi.so"

def _tvm_ffi_library_impl(ctx):
    headers = [file for file in ctx.files.wheel if _INCLUDE in file.path and file.extension == "h"]
    libraries = [file for file in ctx.files.wheel if file.path.endswith(_LIBRARY)]
    if not headers or len(libraries) != 1:
        fail("\n{} has {} headers below tvm_ffi/include and {} files tvm_ffi/lib/libtvm_ffi.so; {}".format(
            ctx.attr.wheel.label,
            len(headers),
            len(libraries),
            "wanted: the files of the wheel apache-tvm-ffi for Linux",
        ))
    root = headers[0].path.partition(_INCLUDE)[0] + _INCLUDE.rstrip("/")
    cc_toolchain = find_cc_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = cc_toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    library = cc_common.create_library_to_link(
        actions = ctx.actions,
        cc_toolchain = cc_toolchain,
        dynamic_library = libraries[0],
        feature_configuration = features,
    )
    linker_input = cc_common.create_linker_input(owner = ctx.label, libraries = depset([library]))
    return [CcInfo(
        compilation_context = cc_common.create_compilation_context(
            headers = depset(headers),
            system_includes = depset([root]),
        ),
        linking_context = cc_common.create_linking_context(linker_inputs = depset([linker_input])),
    )]

tvm_ffi_library = rule(
    implementation = _tvm_ffi_library_impl,
    attrs = {
        "wheel": attr.label(
            allow_files = True,
            doc = "All files of the wheel: extracted_whl_files of its package in a pip hub.",
            mandatory = True,
        ),
    },
    doc = "Presents the wheel apache-tvm-ffi to C++ rules.",
    fragments = ["cpp"],
    provides = [CcInfo],
    toolchains = use_cc_toolchain(),
)
