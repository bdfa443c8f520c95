"""Rules that present headers and compiled kernels to C++ and CUDA rules."""

load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")
load(":families.bzl", "FAMILIES")
load(":providers.bzl", "MarlinGeneratedInfo", "MarlinKernelsInfo")

visibility("//...")

# Generated files include these headers by name.
_TEMPLATE_HEADERS = ["kernel.h", "marlin_template.h"]

def _header_info(headers, quoted = None):
    """Returns a CcInfo of headers, with the directories of some of them on the quote include path."""
    directories = {file.dirname: None for file in (headers if quoted == None else quoted)}
    return CcInfo(compilation_context = cc_common.create_compilation_context(
        headers = depset(headers),
        quote_includes = depset(directories.keys()),
    ))

def _marlin_kernel_headers_impl(ctx):
    infos = [target[CcInfo] for target in ctx.attr.hdrs if CcInfo in target]
    headers = list(ctx.files.hdrs)
    for info in infos:
        headers.extend(info.compilation_context.direct_headers)
    template_headers = [file for file in headers if file.basename in _TEMPLATE_HEADERS]
    found = [file.basename for file in template_headers]
    missing = [basename for basename in _TEMPLATE_HEADERS if basename not in found]
    if missing:
        fail("\nkernel_hdrs lacks {}: generated kernels include {}".format(
            " and ".join(missing),
            " and ".join(_TEMPLATE_HEADERS),
        ))
    own = _header_info(headers, quoted = template_headers)
    return [cc_common.merge_cc_infos(direct_cc_infos = [own], cc_infos = infos)]

marlin_kernel_headers = rule(
    implementation = _marlin_kernel_headers_impl,
    attrs = {
        "hdrs": attr.label_list(
            allow_files = True,
            doc = "Files, filegroups or cc_library targets.",
        ),
    },
    doc = "Puts the directories of the kernel template's headers on the include path.",
    provides = [CcInfo],
)

def _kernels_built(info):
    """Returns the text of kernels_built.h."""
    code = "; ".join([
        "{} for {}".format(family, ", ".join([spec.partition(":")[2] for spec in info.specs[family]]))
        for family in info.families
    ])

    # The launcher prefers the families that the table has last.
    families = [family for family in reversed(FAMILIES) if family["name"] in info.families]
    return """// What these kernels are: in words for messages, and their families and tiles for the launcher.
#pragma once

#define MARLIN_KERNELS_BUILT "quant schemes {schemes}; families {code}"

// Families, the one to prefer first:
//   FAMILY(name, template, lowest capability, whether it runs on no other, stages)
#define MARLIN_FAMILIES_BUILT(FAMILY) \\
{families}

// Tiles, family by family, by template:
//   Marlin(family, a_type, rows, thread_k, thread_n, threads)
//   MarlinSm90(family, a_type, rows, thread_n, blocks_per_sm)
#define MARLIN_TILES_BUILT(Marlin, MarlinSm90) \\
{tiles}

// Selectors of families that have one of their own.
{selectors}""".format(
        schemes = ", ".join(info.schemes),
        code = code,
        families = _macro_body([_family_row(family) for family in families]),
        tiles = _macro_body([
            "{}({}, {})".format(family["template"], family["name"], ", ".join([str(part) for part in tile]))
            for family in families
            for tile in info.tiles[family["name"]]
        ]),
        selectors = "".join([
            "#define MARLIN_{}_SELECTOR \"{}\"\n".format(family["name"].upper(), family["selector"])
            for family in families
            if family["selector"] != info.selector.basename
        ]),
    )

def _family_row(family):
    return "FAMILY({}, {}, {}, {}, {})".format(
        family["name"],
        family["template"],
        family["capabilities"][0].replace(".", ""),
        "true" if family["suffix"] else "false",
        family["stages"],
    )

def _macro_body(rows):
    return " \\\n".join(["  " + row for row in rows])

def _marlin_selector_impl(ctx):
    info = ctx.attr.generated[MarlinGeneratedInfo]
    built = ctx.actions.declare_file("kernels_built.h", sibling = info.selector)
    ctx.actions.write(built, _kernels_built(info))
    return [DefaultInfo(files = depset(info.selectors)), _header_info(info.selectors + [built])]

marlin_selector = rule(
    implementation = _marlin_selector_impl,
    attrs = {"generated": attr.label(mandatory = True, providers = [MarlinGeneratedInfo])},
    doc = "Lets dependents include the selectors and kernels_built.h by name.",
    provides = [CcInfo],
)

def _pic_libraries(ctx, target):
    """Returns the target's own archives, in their position-independent form where there is one."""
    cc_toolchain = find_cc_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = cc_toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    libraries = []
    for linker_input in target[CcInfo].linking_context.linker_inputs.to_list():
        for library in linker_input.libraries if linker_input.owner == target.label else []:
            libraries.append(cc_common.create_library_to_link(
                actions = ctx.actions,
                cc_toolchain = cc_toolchain,
                feature_configuration = features,
                pic_static_library = library.pic_static_library,
                static_library = None if library.pic_static_library else library.static_library,
            ))
    return libraries

def _linking_context(ctx, libraries):
    """Returns a linking context of the libraries and of what the compiled targets depend on."""
    own = [target.label for target in ctx.attr.compiled]
    others = [
        linker_input
        for target in ctx.attr.compiled
        for linker_input in target[CcInfo].linking_context.linker_inputs.to_list()
        if linker_input.owner not in own
    ]
    return cc_common.create_linking_context(linker_inputs = depset(
        [cc_common.create_linker_input(owner = ctx.label, libraries = depset(libraries))] + others,
        order = "topological",
    ))

def _given_deps(ctx):
    """Returns the deps that the user of the macro gave."""
    compiled = [target.label for target in ctx.attr.compiled]
    return [dep for dep in ctx.attr.deps if dep.label not in compiled]

def _marlin_kernels_library_impl(ctx):
    generated = ctx.attr.generated[MarlinGeneratedInfo]

    # A group that has no kernels for the architectures asked for has an empty archive.
    compiled = [target for target in ctx.attr.compiled if target[OutputGroupInfo].pic_objects]
    libraries = [library for target in compiled for library in _pic_libraries(ctx, target)]
    cc_info = cc_common.merge_cc_infos(
        direct_cc_infos = [CcInfo(
            compilation_context = cc_common.create_compilation_context(headers = depset(ctx.files.hdrs)),
            linking_context = _linking_context(ctx, libraries),
        )],
        cc_infos = [ctx.attr.selector[CcInfo]] + [dep[CcInfo] for dep in _given_deps(ctx)],
    )
    sources = [file for files in generated.sources.values() for file in files]
    archives = [library.pic_static_library or library.static_library for library in libraries]
    return [
        DefaultInfo(
            files = depset(archives),
            runfiles = ctx.runfiles().merge_all(
                [dep[DefaultInfo].default_runfiles for dep in ctx.attr.deps],
            ),
        ),
        cc_info,
        coverage_common.instrumented_files_info(ctx, dependency_attributes = ["deps"]),
        MarlinKernelsInfo(
            archs = [arch.name for arch in generated.archs],
            families = generated.families,
            manifest = generated.manifest,
            schemes = generated.schemes,
            selector = generated.selector,
            sources = depset(sources),
            specs = generated.specs,
        ),
        OutputGroupInfo(
            generated = depset(sources + generated.selectors + [generated.manifest]),
            manifest = depset([generated.manifest]),
            objects = depset(transitive = [
                target[OutputGroupInfo].pic_objects
                for target in compiled
            ]),
            selector = depset(generated.selectors),
        ),
    ]

marlin_kernels_library = rule(
    implementation = _marlin_kernels_library_impl,
    attrs = {
        "compiled": attr.label_list(
            doc = "The cuda_library targets, in link order.",
            providers = [CcInfo, OutputGroupInfo],
        ),
        "deps": attr.label_list(
            doc = "Libraries that the code needs, and the targets of `compiled`, because aspects walk deps.",
            providers = [CcInfo],
        ),
        "generated": attr.label(mandatory = True, providers = [MarlinGeneratedInfo]),
        "hdrs": attr.label_list(allow_files = True, doc = "Public headers."),
        "selector": attr.label(mandatory = True, providers = [CcInfo]),
    },
    doc = "Hands on generated kernels, compiled, with their selector.",
    fragments = ["cpp"],
    provides = [CcInfo, MarlinKernelsInfo],
    toolchains = use_cc_toolchain(),
)
