"""The rules cuda_library and cuda_objects."""

load("@bazel_skylib//lib:paths.bzl", "paths")
load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")
load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")
load(":compile.bzl", "HEADERS", "SOURCES", "check_options", "compile")
load(":settings.bzl", "CudaArchsInfo", "parse_archs")
load(":toolchain.bzl", "use_cuda_toolchain")

CudaInfo = provider(
    doc = "What CUDA targets hand to CUDA targets that depend on them.",
    fields = {
        "defines": "depset of macros for nvcc",
        "objects": "depset of objects that a cuda_library has to archive",
        "pic_objects": "depset of the same objects, position-independent",
    },
)

def _include_directories(ctx):
    """The directories that the attribute includes names, in the source and the output tree."""
    found = []
    for include in ctx.attr.includes:
        if paths.is_absolute(include):
            fail("invalid absolute path {}".format(include))
        path = paths.normalize(paths.join(ctx.label.workspace_root, ctx.label.package, include))
        found += [path, paths.join(ctx.bin_dir.path, path)]
    return found

def _check_sources(ctx):
    for target in ctx.attr.srcs:
        files = target[DefaultInfo].files.to_list()
        if not [file for file in files if file.basename.endswith(tuple(SOURCES + HEADERS))]:
            fail("'{}' does not produce any {} srcs files".format(target.label, "CUDA"), attr = "srcs")

def _compilation_context(ctx, inherited):
    """What this target's sources, and the targets that depend on it, are compiled with."""
    sources = [file for target in ctx.attr.srcs for file in target[DefaultInfo].files.to_list()]
    headers = [file for target in ctx.attr.hdrs for file in target[DefaultInfo].files.to_list()]
    headers += [file for file in sources if file.basename.endswith(tuple(HEADERS))]
    root = ctx.label.workspace_root or "."
    own = cc_common.create_compilation_context(
        headers = depset(headers),
        quote_includes = depset([root, paths.normalize(paths.join(ctx.bin_dir.path, root))]),
        system_includes = depset(_include_directories(ctx)),
        defines = depset(ctx.attr.host_defines),
        local_defines = depset(ctx.attr.host_local_defines),
    )
    return cc_common.merge_compilation_contexts(compilation_contexts = [own, inherited])

def _gather(ctx):
    """Everything that both rules need: inherited providers, sources and the compiler's options."""
    _check_sources(ctx)
    check_options(ctx.attr.copts + ctx.attr.ptxasopts)
    dependencies = ctx.attr.deps + getattr(ctx.attr, "_builtin_deps", [])
    inherited = cc_common.merge_cc_infos(
        cc_infos = [dep[CcInfo] for dep in dependencies if CcInfo in dep],
    )
    cuda_infos = [dep[CudaInfo] for dep in ctx.attr.deps if CudaInfo in dep]
    defines = depset(ctx.attr.defines, transitive = [info.defines for info in cuda_infos])
    cc_toolchain = find_cc_toolchain(ctx)
    return struct(
        archs = parse_archs(";".join(ctx.attr.archs)) if ctx.attr.archs else ctx.attr._archs[CudaArchsInfo],
        cc_toolchain = cc_toolchain,
        compilation_context = _compilation_context(ctx, inherited.compilation_context),
        copts = ctx.attr._copts[BuildSettingInfo].value + ctx.attr.copts,
        cuda_infos = cuda_infos,
        defines = defines,
        features = cc_common.configure_features(
            ctx = ctx,
            cc_toolchain = cc_toolchain,
            requested_features = ctx.features,
            unsupported_features = ctx.disabled_features,
        ),
        host_copts = ctx.attr._host_copts[BuildSettingInfo].value + ctx.attr.host_copts,
        inherited = inherited,
        sources = [
            file
            for target in ctx.attr.srcs
            for file in target[DefaultInfo].files.to_list()
            if file.basename.endswith(tuple(SOURCES))
        ],
    )

def _archive(ctx, common, objects, pic_objects):
    """Archives objects; returns the linking context and the files of the archives."""
    linking_context, outputs = cc_common.create_linking_context_from_compilation_outputs(
        name = ctx.label.name,
        actions = ctx.actions,
        alwayslink = ctx.attr.alwayslink,
        cc_toolchain = common.cc_toolchain,
        compilation_outputs = cc_common.create_compilation_outputs(
            objects = objects,
            pic_objects = pic_objects,
        ),
        disallow_dynamic_library = True,
        feature_configuration = common.features,
        linking_contexts = [common.inherited.linking_context],
        user_link_flags = ctx.attr.host_linkopts,
    )
    library = outputs.library_to_link
    archives = [library.static_library, library.pic_static_library] if library else [None, None]
    return linking_context, [[archive] if archive else [] for archive in archives]

def _cuda_library_impl(ctx):
    if ctx.attr.rdc:
        fail("rdc: this stand-in for rules_cuda does not link relocatable device code")
    common = _gather(ctx)
    objects = compile(ctx, common, pic = False)
    pic_objects = compile(ctx, common, pic = True)
    linking_context, (lib, pic_lib) = _archive(
        ctx,
        common,
        depset(objects, transitive = [info.objects for info in common.cuda_infos]),
        depset(pic_objects, transitive = [info.pic_objects for info in common.cuda_infos]),
    )
    return [
        DefaultInfo(files = depset(lib + pic_lib)),
        OutputGroupInfo(
            lib = depset(lib),
            objects = depset(objects),
            pic_lib = depset(pic_lib),
            pic_objects = depset(pic_objects),
            rdc_objects = depset(),
            rdc_pic_objects = depset(),
        ),
        CcInfo(compilation_context = common.compilation_context, linking_context = linking_context),
        CudaInfo(defines = common.defines, objects = depset(), pic_objects = depset()),
    ]

def _cuda_objects_impl(ctx):
    common = _gather(ctx)
    objects = compile(ctx, common, pic = False)
    pic_objects = compile(ctx, common, pic = True)
    return [
        # The real rule's default output is relocatable device code, which this one does not make.
        DefaultInfo(),
        OutputGroupInfo(objects = depset(objects), pic_objects = depset(pic_objects)),
        CcInfo(
            compilation_context = common.compilation_context,
            linking_context = common.inherited.linking_context,
        ),
        CudaInfo(
            defines = common.defines,
            objects = depset(objects, transitive = [info.objects for info in common.cuda_infos]),
            pic_objects = depset(
                pic_objects,
                transitive = [info.pic_objects for info in common.cuda_infos],
            ),
        ),
    ]

_ATTRS = {
    "archs": attr.string_list(doc = "Architecture specs; empty: the flag //cuda:archs."),
    "copts": attr.string_list(doc = "Options for nvcc."),
    "defines": attr.string_list(doc = "Macros for nvcc, here and in CUDA targets that depend on this."),
    "deps": attr.label_list(doc = "C++ and CUDA libraries.", providers = [[CcInfo], [CudaInfo]]),
    "hdrs": attr.label_list(doc = "Headers for targets that depend on this.", allow_files = HEADERS),
    "host_copts": attr.string_list(doc = "Options for the host compiler."),
    "host_defines": attr.string_list(doc = "Macros, here and in all targets that depend on this."),
    "host_local_defines": attr.string_list(doc = "Macros, here alone."),
    "includes": attr.string_list(doc = "Include directories, from this package."),
    "local_defines": attr.string_list(doc = "Macros for nvcc, here alone."),
    "ptxasopts": attr.string_list(doc = "Options for ptxas."),
    "srcs": attr.label_list(doc = "Sources and private headers.", allow_files = SOURCES + HEADERS),
    "_archs": attr.label(default = "//cuda:archs"),
    "_copts": attr.label(default = "//cuda:copts"),
    "_host_copts": attr.label(default = "//cuda:host_copts"),
}

cuda_library = rule(
    doc = "Compiles CUDA sources into a static library that cc_* rules can link.",
    implementation = _cuda_library_impl,
    attrs = _ATTRS | {
        "alwayslink": attr.bool(doc = "Link all objects, used or not."),
        "host_linkopts": attr.string_list(doc = "Options for the host linker."),
        "linkopts": attr.string_list(doc = "Options for the device linker, which never runs here."),
        "rdc": attr.bool(doc = "Relocatable device code: refused."),
        "_builtin_deps": attr.label_list(default = ["//cuda:runtime"]),
    },
    fragments = ["cpp"],
    provides = [CcInfo, CudaInfo],
    toolchains = use_cc_toolchain() + use_cuda_toolchain(),
)

cuda_objects = rule(
    doc = "Compiles CUDA sources into objects that a cuda_library archives.",
    implementation = _cuda_objects_impl,
    attrs = _ATTRS,
    fragments = ["cpp"],
    provides = [CcInfo, CudaInfo],
    toolchains = use_cc_toolchain() + use_cuda_toolchain(),
)
