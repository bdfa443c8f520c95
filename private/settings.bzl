"""Build settings: the flag `//:cuda_archs`, and what select() reads of it.

Left unset, it follows rules_cuda's own flag, `@rules_cuda//cuda:archs`.

The `archs` of a family's cuda_library are a sum of select()s, one for each spec that the family may
be compiled for. So no configuration below ever sees the whole request, and a target's path and
actions depend on its own specs only.
"""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")
load("@rules_cuda//cuda:defs.bzl", "CudaArchsInfo")
load(":archs.bzl", "ANY_FAMILY", "all_family_specs", "check_extra_families", "family_specs", "parse_cuda_archs", "spec_condition")
load(":families.bzl", "ARCHS", "FAMILIES")
load(":providers.bzl", "CudaArchsSettingInfo", "ExtraFamiliesSettingInfo")

visibility("//...")

_PACKAGE = "//private/family_archs"

# The default where no flag names architectures.
_DEFAULT_ARCHS = "sm_80"

def _rules_cuda_archs(info):
    """Returns what rules_cuda's flag asks for, spelled as parse_cuda_archs() reads it."""
    words = []
    for spec in info.arch_specs:
        for code in spec.stage2_archs:
            if code.lto:
                fail(("\n@rules_cuda//cuda:archs asks for lto_{}: the kernels are not linked on the " +
                      "device; set --@marlin_moe_kernels//:cuda_archs").format(code.arch))
            words.append("sm_" + code.arch + ("+PTX" if code.virtual else ""))
    return words

def _cuda_archs_setting_impl(ctx):
    given = [ctx.build_setting_value]
    where = ""
    if not ctx.build_setting_value:
        given = _rules_cuda_archs(ctx.attr._rules_cuda_archs[CudaArchsInfo]) or [_DEFAULT_ARCHS]
        where = "; this is what --@rules_cuda//cuda:archs asks for: set --@marlin_moe_kernels//:cuda_archs to what the kernels know"
    parsed = parse_cuda_archs(given)
    if parsed.error:
        fail("\n" + parsed.error + where)
    return [CudaArchsSettingInfo(archs = parsed.archs)]

cuda_archs_setting = rule(
    implementation = _cuda_archs_setting_impl,
    attrs = {"_rules_cuda_archs": attr.label(default = "@rules_cuda//cuda:archs")},
    build_setting = config.string(flag = True),
    doc = "The CUDA architectures to compile kernels for, as text; fails if it is not understood. " +
          "Empty: what rules_cuda's own flag asks for.",
    provides = [CudaArchsSettingInfo],
)

def _extra_families_setting_impl(ctx):
    families = [name for name in ctx.build_setting_value.replace(",", " ").split(" ") if name]
    error = check_extra_families(families)
    if error:
        fail("\n" + error)
    return [ExtraFamiliesSettingInfo(families = families)]

extra_families_setting = rule(
    implementation = _extra_families_setting_impl,
    build_setting = config.string(flag = True),
    doc = "The kernel families beyond the documented ones that are built, separated by commas.",
    provides = [ExtraFamiliesSettingInfo],
)

def _arch_probe_impl(ctx):
    archs = ctx.attr._cuda_archs[CudaArchsSettingInfo].archs
    asked = ctx.attr.capability in [arch.capability for arch in archs]
    return [config_common.FeatureFlagInfo(value = "yes" if asked else "no")]

_arch_probe = rule(
    implementation = _arch_probe_impl,
    attrs = {
        "capability": attr.string(mandatory = True, doc = "A compute capability, such as 9.0."),
        "_cuda_archs": attr.label(default = "//:cuda_archs"),
    },
    doc = "Tells, as the value of a flag, whether the flag //:cuda_archs asks for a capability.",
    provides = [config_common.FeatureFlagInfo],
)

def capability_settings(name):
    """Declares a public condition for each compute capability: does the flag `//:cuda_archs` ask for it?

    Args:
      name: prefix of the probes' names. The conditions have the names of the capabilities.
    """
    for arch in ARCHS:
        probe = "{}_{}".format(name, arch["capability"])
        _arch_probe(
            name = probe,
            capability = arch["capability"],
            visibility = ["//visibility:private"],
        )
        native.config_setting(
            name = arch["capability"],
            flag_values = {":" + probe: "yes"},
            visibility = ["//visibility:public"],
        )

def _spec_probe_impl(ctx):
    exact = ctx.attr._sass[BuildSettingInfo].value == "exact"
    specs = family_specs(ctx.attr.family, ctx.attr._cuda_archs[CudaArchsSettingInfo].archs, exact)
    return [config_common.FeatureFlagInfo(value = "yes" if ctx.attr.spec in specs else "no")]

_spec_probe = rule(
    implementation = _spec_probe_impl,
    attrs = {
        "family": attr.string(mandatory = True, doc = "A kernel family, or ANY_FAMILY."),
        "spec": attr.string(mandatory = True, doc = "An arch spec of rules_cuda."),
        "_cuda_archs": attr.label(default = "//:cuda_archs"),
        "_sass": attr.label(default = "//:sass"),
    },
    doc = "Tells, as the value of a flag, whether a family is compiled for a spec.",
    provides = [config_common.FeatureFlagInfo],
)

def family_arch_settings(name):
    """Declares the conditions that flag_specs() selects on, and the probes that they ask.

    Args:
      name: prefix of the probes' names.
    """
    asked = {}
    for family in [family["name"] for family in FAMILIES] + [ANY_FAMILY]:
        for spec in all_family_specs(family):
            asked.setdefault(spec_condition(family, spec), (family, spec))
    for condition, (family, spec) in asked.items():
        probe = "{}_{}".format(name, condition)
        _spec_probe(
            name = probe,
            family = family,
            spec = spec,
            visibility = ["//visibility:private"],
        )
        native.config_setting(
            name = condition,
            flag_values = {":" + probe: "yes"},
            visibility = ["//visibility:public"],
        )

def flag_specs(family, supported_numbers):
    """Returns what a family is compiled for when the flag `//:cuda_archs` decides.

    Args:
      family: a name out of FAMILIES, or ANY_FAMILY.
      supported_numbers: the architecture numbers that the CUDA rules accept.

    Returns:
      A configurable list of arch specs, for the attribute `archs` of cuda_library.
    """
    specs = []
    for spec in all_family_specs(family):
        if spec.split(":")[0][len("compute_"):] in supported_numbers:
            condition = Label("{}:{}".format(_PACKAGE, spec_condition(family, spec)))
            specs = specs + select({condition: [spec], "//conditions:default": []})
    return specs

def given_specs(family, archs, supported_numbers):
    """Returns what a family is compiled for when the target itself names its architectures.

    Args:
      family: a name out of FAMILIES, or ANY_FAMILY.
      archs: the list that parse_cuda_archs() returns.
      supported_numbers: the architecture numbers that the CUDA rules accept.

    Returns:
      A configurable list of arch specs, for the attribute `archs` of cuda_library.
    """
    modes = {}
    for mode in ["covering", "exact"]:
        modes[mode] = [
            spec
            for spec in family_specs(family, archs, mode == "exact")
            if spec.split(":")[0][len("compute_"):] in supported_numbers
        ]
    return select({
        Label(_PACKAGE + ":sass_exact"): modes["exact"],
        "//conditions:default": modes["covering"],
    })
