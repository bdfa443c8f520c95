"""The rule that runs the kernel generator.

Kernel families and quantisation schemes decide which files it writes, so every file is declared
during analysis. The action depends on the families, never on the architectures behind them:
two requests that need the same families share one action and its cached result.
"""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")
load("@rules_cuda//cuda:defs.bzl", "cuda_archs")
load(":archs.bzl", "ANY_FAMILY", "all_archs", "extra_families", "families_needed", "family_specs", "parse_cuda_archs", "unsupported_specs")
load(":families.bzl", "FAMILIES")
load(":generator.bzl", "run_generator")
load(":providers.bzl", "CudaArchsSettingInfo", "ExtraFamiliesSettingInfo", "MarlinGeneratedInfo")
load(":quant_scheme.bzl", "bits_of", "select_schemes", "tiles_of")
load(":quant_schemes.bzl", "KERNEL_COSTS", "PART_COST", "SCHEME_HEADERS", "SM90_KERNEL_COST")
load(":tables.bzl", "TABLES")

visibility("//...")

_SELECTOR = "kernel_selector.h"
_MANIFEST = "manifest.json"

def _part_names(stem, costs):
    """Returns the names of the files that hold kernels of the given costs.

    The generator divides kernels between files in the same way.

    Args:
      stem: name of the file, or of the first of its parts.
      costs: list of numbers, one for each kind of scales: what its kernels cost together. They stay
        in one file.
    """
    names = [stem + ".cu"]
    part_sum = 0
    for cost in costs:
        if part_sum and part_sum + cost > PART_COST:
            names.append("{}_{}.cu".format(stem, len(names) + 1))
            part_sum = 0
        part_sum += cost
    return names

def kernel_files(family, schemes):
    """Returns the files that hold a family's kernels for some schemes.

    Args:
      family: an entry of FAMILIES.
      schemes: list of checked schemes.

    Returns:
      A sorted list of structs: `name` of the file and `header`, the name of the entry of
      SCHEME_HEADERS that the file includes. There is a file for each combination of activation,
      weight and output type, or several if its kernels cost too much to compile.
    """

    # Maps each file to its kinds of scales, and each of these to its tiles with their costs.
    stems = {}
    headers = {}
    for kind in _kernel_kinds(family, schemes):
        types = [name[1:].lower() for name in [kind.a_type, kind.b_type, kind.c_type]]
        stem = "{}_kernel_{}".format(family["name"], "_".join(types))
        headers[stem] = _scheme_header(kind.a_type, kind.b_type)
        stems.setdefault(stem, {}).setdefault(kind.scales, {}).update(kind.costs)
    return [
        struct(name = name, header = headers[stem])
        for stem in sorted(stems)
        for name in _part_names(stem, [_sum(tiles.values()) for tiles in stems[stem].values()])
    ]

def built_tiles(family, schemes):
    """Returns the tiles that a family's kernels for some schemes have.

    Args:
      family: an entry of FAMILIES.
      schemes: list of checked schemes.

    Returns:
      A list of tuples without repetition: the activation type, the rows, and what else describes a
      tile: thread_k, thread_n and threads, or what the family's tile_table has.
    """
    tiles = {}
    for kind in _kernel_kinds(family, schemes):
        for tile in kind.costs:
            if not family["tile_table"]:
                config, m_blocks = tile
                tile = (int(16 * m_blocks),) + config
            tiles[(kind.a_type,) + tile] = None
    return tiles.keys()

def _kernel_kinds(family, schemes):
    """Returns the combinations of types and scales that a family has kernels of, with their tiles.

    Returns:
      A list of structs: `a_type`, `b_type`, `c_type`; `scales`, their type and group_blocks; `costs`,
      a dict from each tile to the cost of its kernel.
    """
    kinds = []
    for scheme in schemes:
        for a_type in scheme["a_type"]:
            for c_type in scheme["c_type"] or [a_type]:
                if a_type not in family["a_types"] or c_type not in family["c_types"]:
                    continue
                for group in scheme["group_blocks"]:
                    costs = _tile_costs(family, scheme, a_type, c_type, group)
                    if costs:
                        kinds.append(struct(
                            a_type = a_type,
                            b_type = scheme["b_type"],
                            c_type = c_type,
                            scales = (scheme["s_type"] or c_type, group),
                            costs = costs,
                        ))
    return kinds

def _tile_costs(family, scheme, a_type, c_type, group):
    """Returns the tiles of a scheme's kernels of one kind, as a dict from each tile to its cost."""
    if family["tile_table"]:
        if bits_of(a_type) == 16 and c_type != a_type:
            return {}
        s_type = scheme["s_type"] or c_type
        return {
            tile: SM90_KERNEL_COST
            for row in TABLES[family["tile_table"]]
            if a_type in row["a_types"] and scheme["b_type"] in row["b_types"] and
               s_type == (row["s_type"] or c_type) and group in row["group_blocks"]
            for tile in row["tiles"]
        }
    kernel_costs = dict(KERNEL_COSTS[bits_of(a_type)])
    return {
        (tuple(tile[:-1]), m_blocks): kernel_costs[m_blocks]
        for tile in tiles_of(scheme)
        for m_blocks in tile[-1]
    }

def _sum(numbers):
    total = 0
    for number in numbers:
        total += number
    return total

def _scheme_header(a_type, b_type):
    """Returns the name of the entry of SCHEME_HEADERS for some types."""
    for header in SCHEME_HEADERS:
        if a_type in header["a_types"] and b_type in header["b_types"]:
            return header["name"]
    fail("no scheme header for {} activations and {} weights".format(a_type, b_type))

def source_groups(family, scheme_headers):
    """Returns the groups that a family's files are compiled in.

    Args:
      family: an entry of FAMILIES.
      scheme_headers: whether the files include headers of SCHEME_HEADERS; only then are there
        extra families.

    Returns:
      A list of structs: `name`, which is that of its output group, and `header`, the entry of
      SCHEME_HEADERS that its files include, None if the family is one group.
    """
    if not scheme_headers:
        return [] if family["extra"] else [struct(name = family["name"], header = None)]
    return [
        struct(name = "{}.{}".format(family["name"], header["name"]), header = header["name"])
        for header in SCHEME_HEADERS
        if _may_include(family, header)
    ]

def _may_include(family, header):
    """Returns whether a family has kernels of the types that a scheme header is for."""
    a_types = [a_type for a_type in header["a_types"] if a_type in family["a_types"]]
    if not family["tile_table"]:
        return bool(a_types)
    return any([
        any([a_type in row["a_types"] for a_type in a_types]) and
        any([b_type in row["b_types"] for b_type in header["b_types"]])
        for row in TABLES[family["tile_table"]]
    ])

def _requested_archs(ctx):
    if ctx.attr.archs_from_flag:
        return ctx.attr._cuda_archs[CudaArchsSettingInfo].archs
    parsed = parse_cuda_archs(ctx.attr.cuda_archs)
    if parsed.error:
        fail("\n" + parsed.error)
    return parsed.archs

def _requested_schemes(ctx):
    chosen = select_schemes(ctx.attr.quant_schemes, ctx.attr.extra_quant_schemes)
    if chosen.error:
        fail("\n" + chosen.error)
    return chosen.schemes

def _extra_families(ctx):
    """Returns the extra families that the target has."""
    if not ctx.attr.extra_families_from_flag:
        return ctx.attr.extra_families
    if not ctx.attr.scheme_headers:
        return []
    return ctx.attr._extra_families[ExtraFamiliesSettingInfo].families

def _files_by_family(ctx, archs, schemes):
    """Returns a dict from family to its kernel_files(), without families that have none."""
    wanted = _extra_families(ctx)
    left_out = [family for family in extra_families() if family not in wanted]
    needed = [family for family in families_needed(archs) if family not in left_out]
    files = {}
    for family in FAMILIES:
        if family["name"] in needed or family["name"] in ctx.attr.family_archs:
            of_family = kernel_files(family, schemes)
            if of_family:
                files[family["name"]] = of_family
    if not files:
        fail("\nno kernel: none of the quant schemes {} has one for cuda_archs {}".format(
            ", ".join([scheme["name"] for scheme in schemes]),
            ", ".join([arch.name for arch in archs]),
        ))
    return files

def _compiled_specs(ctx, archs, families):
    """Returns a dict from family, or "srcs", to the specs that its files are compiled for."""
    exact = ctx.attr._sass[BuildSettingInfo].value == "exact"
    specs = {}
    for family in families:
        if family in ctx.attr.family_archs:
            only = parse_cuda_archs(ctx.attr.family_archs[family]).archs
            specs[family] = family_specs(ANY_FAMILY, only, exact)
        else:
            specs[family] = family_specs(family, archs, exact)
    if ctx.attr.has_srcs:
        specs["srcs"] = family_specs(ANY_FAMILY, archs, exact)
    unsupported = {}
    for compiled in specs.values():
        unsupported.update({number: None for number in unsupported_specs(compiled, cuda_archs)})
    if unsupported:
        supported = [arch.name for arch in all_archs() if arch.number in cuda_archs]
        fail("\ncuda_archs: this version of rules_cuda cannot compile for sm_{}; it can for {}; ask for these, or use a newer rules_cuda".format(
            ", sm_".join(unsupported),
            ", ".join(supported),
        ))
    return specs

def _spec_content(ctx, families, schemes):
    """Returns the generator's input. It must not tell which architectures were asked for."""
    return json.encode_indent({
        "families": families,
        "kernel_namespace": ctx.attr.kernel_namespace,
        "scheme_headers": ctx.attr.scheme_headers,
        "schemes": schemes,
        "selector": ctx.attr.selector,
        "selector_fallback": ctx.attr.selector_fallback,
        "tables": TABLES,
        "type_namespace": ctx.attr.type_namespace,
    }, indent = "  ") + "\n"

def _marlin_generated_impl(ctx):
    if ctx.attr.argument_error:
        fail("\n" + ctx.attr.argument_error)
    archs = _requested_archs(ctx)
    schemes = _requested_schemes(ctx)
    files = _files_by_family(ctx, archs, schemes)
    families = list(files)
    specs = _compiled_specs(ctx, archs, families)

    def declare(basename):
        return ctx.actions.declare_file("{}/{}".format(ctx.attr.directory, basename))

    sources = {family: [declare(file.name) for file in files[family]] for family in families}
    selector = declare(_SELECTOR)
    manifest = declare(_MANIFEST)
    others = [family["selector"] for family in FAMILIES if family["name"] in families and family["selector"] != _SELECTOR]
    selectors = [selector] + [declare(basename) for basename in others]
    outputs = [file for family in families for file in sources[family]] + selectors + [manifest]

    spec = ctx.actions.declare_file("{}/spec.json".format(ctx.label.name))
    ctx.actions.write(spec, _spec_content(ctx, families, schemes))
    args = ctx.actions.args()
    args.add("--spec", spec)
    args.add_all("--outputs", outputs)
    run_generator(
        ctx,
        ctx.attr._generator,
        arguments = args,
        inputs = [spec],
        outputs = outputs,
        mnemonic = "MarlinGenerate",
        progress_message = "Generating Marlin MoE kernels %{label}",
        execution_requirements = {"supports-path-mapping": "1"},
    )

    # rules_cuda wants a file even for a group without kernels.
    groups = {}
    for family in FAMILIES:
        for group in source_groups(family, ctx.attr.scheme_headers):
            members = [
                source
                for file, source in zip(files.get(family["name"], []), sources.get(family["name"], []))
                if group.header in (None, file.header)
            ]
            groups[group.name] = depset(members or [ctx.file._empty])
    return [
        DefaultInfo(files = depset(outputs)),
        MarlinGeneratedInfo(
            archs = archs,
            families = families,
            manifest = manifest,
            schemes = [scheme["name"] for scheme in schemes],
            selector = selector,
            selectors = selectors,
            sources = sources,
            specs = specs,
            tiles = {
                family["name"]: built_tiles(family, schemes)
                for family in FAMILIES
                if family["name"] in families
            },
        ),
        OutputGroupInfo(
            generated = depset(outputs),
            manifest = depset([manifest]),
            selector = depset(selectors),
            spec = depset([spec]),
            **groups
        ),
    ]

marlin_generated = rule(
    implementation = _marlin_generated_impl,
    attrs = {
        "archs_from_flag": attr.bool(doc = "Whether the flag //:cuda_archs decides."),
        "argument_error": attr.string(doc = "What is wrong with the macro's arguments, or empty."),
        "cuda_archs": attr.string_list(doc = "CUDA architectures, unless the flag decides."),
        "directory": attr.string(mandatory = True, doc = "Where the files go in this package."),
        "extra_families": attr.string_list(doc = "Names of extra families, unless the flag decides."),
        "extra_families_from_flag": attr.bool(doc = "Whether the flag //:extra_families decides."),
        "extra_quant_schemes": attr.string_list(doc = "What quant_scheme() returned."),
        "family_archs": attr.string_list_dict(
            doc = "For tests: architectures that a family is compiled for whatever is asked for.",
        ),
        "has_srcs": attr.bool(doc = "Whether hand-written sources are compiled as well."),
        "kernel_namespace": attr.string(mandatory = True, doc = "C++ namespace of the kernels."),
        "quant_schemes": attr.string_list(doc = "Names out of the table of schemes."),
        "scheme_headers": attr.bool(
            doc = "Whether the kernels' headers are this module's, with those of SCHEME_HEADERS.",
        ),
        "selector": attr.string(mandatory = True, doc = "Style of kernel_selector.h."),
        "selector_fallback": attr.string(doc = "Statement of its last branch, or empty."),
        "type_namespace": attr.string(mandatory = True, doc = "C++ namespace of the scalar types."),
        "_cuda_archs": attr.label(default = "//:cuda_archs"),
        "_extra_families": attr.label(default = "//:extra_families"),
        "_empty": attr.label(allow_single_file = True, default = ":empty.h"),
        "_generator": attr.label(
            cfg = "exec",
            default = "//:generator",
        ),
        "_sass": attr.label(default = "//:sass"),
    },
    doc = "Generates kernel sources, their selector and their manifest, in one action.",
    provides = [MarlinGeneratedInfo],
)
