"""The macro `marlin_moe_kernels`, which puts the generator and rules_cuda together.

    <name>.generated    runs the generator
    <name>.<family>     compiles a family's files, each for the archs that can use it; those of this
                        module's kernels in groups, <name>.<family>.<header>, by the header of
                        SCHEME_HEADERS that they include
    <name>.srcs         compiles hand-written sources, which may include the selector
    <name>              hands on one PIC archive of each

Only <name> is public. There is a target for each set of files that share their architectures and
headers: a change of either compiles those files again and no others. All stay in the top
configuration, so that paths and actions do not depend on the architectures asked for.
"""

load("@rules_cuda//cuda:defs.bzl", "cuda_library", SUPPORTED_NUMBERS = "cuda_archs")
load(":archs.bzl", "ANY_FAMILY", "check_extra_families", "parse_cuda_archs")
load(
    ":cuda_sources.bzl",
    "HOST_OPTIMISED",
    "KERNEL_COPTS",
    "KERNEL_FEATURES",
    "LEAN_COPTS",
    "LEAN_FEATURES",
    "LEAN_STUBS_HOST_COPTS",
    "STUBS_OPTIMISED",
    "requires_cuda",
)
load(":cxx_keywords.bzl", "CXX_KEYWORDS")
load(":families.bzl", "FAMILIES")
load(":generate.bzl", "marlin_generated", "source_groups")
load(":libraries.bzl", "marlin_kernel_headers", "marlin_kernels_library", "marlin_selector")
load(":quant_schemes.bzl", "QUANT_SCHEMES")
load(":settings.bzl", "flag_specs", "given_specs")

visibility("//...")

_SELECTOR_STYLES = ["switch", "chain"]
_COMPRESS_MODES = ["default", "size", "speed", "balance", "none"]
_OWN_KERNEL_HDRS = Label("//csrc/marlin_moe:kernel_hdrs")

# The key by which kernels_for_family_archs() passes what the public macro has no argument for.
_FAMILY_ARCHS = "family archs of a test"

def _check_choice(attribute, value, allowed):
    if value in allowed:
        return ""
    return "{} = {} is not allowed; allowed: {}".format(
        attribute,
        repr(value),
        ", ".join(["\"{}\"".format(choice) for choice in allowed]),
    )

def _check_namespace(attribute, value):
    """Accepts identifiers that C++ leaves to programs, with :: between them."""
    letters = "abcdefghijklmnopqrstuvwxyz_"
    parts = value.split("::") if type(value) == type("") else [""]
    for part in parts:
        text = part.lower()
        well_formed = text and text[0] in letters and not [c for c in text.elems() if c not in letters + "0123456789"]
        reserved = part in CXX_KEYWORDS or "__" in part or (part[:1] == "_" and part[1:2].isupper())
        if not well_formed or reserved:
            return "{} = {} is not allowed; allowed: a C++ namespace such as \"a\" or \"a::b\", without keywords and reserved names".format(
                attribute,
                repr(value),
            )
    return ""

def _check_statement(attribute, value):
    """Accepts an empty string or one line that ends as a statement does."""
    if type(value) == type(""):
        if not value:
            return ""
        if value[-1] in ";}" and not [c for c in value.elems() if c < " "]:
            return ""
    return "{} = {} is not allowed; allowed: a C++ statement in one line, such as \"return nullptr;\"".format(
        attribute,
        repr(value),
    )

def _check_archs(given):
    """Checks the type of cuda_archs, then its content."""
    if given == None:
        return struct(archs = [], error = "")
    if type(given) != type([]) or any([type(arch) != type("") for arch in given]):
        return struct(
            archs = [],
            error = "cuda_archs = {} is not allowed; allowed: a list of strings such as [\"sm_80\", \"9.0a\"], without select(); for a choice by configuration leave it out and use the flag --cuda_archs".format(repr(given)),
        )
    return parse_cuda_archs(given)

def _check_extra_families(given, own_template):
    """Checks the type of extra_families, then its content."""
    if given == None:
        return ""
    if type(given) != type([]) or any([type(family) != type("") for family in given]):
        return "extra_families = {} is not allowed; allowed: a list of strings, without select(); for a choice by configuration leave it out and use the flag --@marlin_moe_kernels//:extra_families".format(repr(given))
    if given and not own_template:
        return "extra_families = {} is not allowed with kernel_hdrs of another kernel tree; allowed: []".format(repr(given))
    return check_extra_families(given)

def _target_specs(family, given, archs, family_archs):
    """Returns the value of cuda_library's archs."""
    if family in family_archs:
        only = parse_cuda_archs(family_archs[family]).archs
        return given_specs(ANY_FAMILY, only, SUPPORTED_NUMBERS)
    if given == None:
        return flag_specs(family, SUPPORTED_NUMBERS)
    return given_specs(family, archs, SUPPORTED_NUMBERS)

def _has_own_template(kernel_hdrs):
    """Returns whether kernel_hdrs names this module's headers. A select() does not say what it names."""
    return type(kernel_hdrs) == type([]) and _OWN_KERNEL_HDRS in [
        native.package_relative_label(header)
        for header in kernel_hdrs
    ]

def marlin_moe_kernels(
        name,
        cuda_archs = None,
        quant_schemes = None,
        extra_quant_schemes = [],
        extra_families = None,
        srcs = [],
        hdrs = [],
        deps = [],
        kernel_hdrs = None,
        type_namespace = "vllm",
        kernel_namespace = "marlin_moe_wna16",
        selector = "switch",
        selector_fallback = "",
        copts = [],
        compress_mode = "size",
        features = [],
        tags = [],
        target_compatible_with = [],
        visibility = None,
        **kwargs):
    """Generates Marlin MoE kernels and compiles each for the CUDA architectures that can use it.

    The target is used like a `cc_library`: it holds the kernels, and its dependents can include
    `kernel_selector.h`, which finds the kernel for given types and tile, and `kernels_built.h`, which
    defines `MARLIN_KERNELS_BUILT`: what was built, in words. It provides
    [MarlinKernelsInfo](#MarlinKernelsInfo). Output groups: `generated` (all generated files),
    `selector`, `manifest`, `objects` (one per kernel file and per file of `srcs`).

    nvcc 12.9 or newer is needed. Kernels are optimised in every compilation mode. They are hidden
    symbols: a `cc_library` that includes the selector needs `linkstatic = True`, so that it and the
    kernels end up in one program or shared library.

    Args:
      name: name of the target.
      cuda_archs: list of strings, the CUDA architectures: `8.0`, `80` or `sm_80`, with `a` or `f`
        where that variant exists, with `+PTX` to embed PTX as well. Default: the flag
        `--cuda_archs`. `--@marlin_moe_kernels//:sass` decides whether each gets a cubin of its own
        (`exact`) or the fewest cubins serve them all (`covering`, the default).
      quant_schemes: list of names of quantisation schemes out of the table in
        `private/quant_schemes.bzl`. Default: the documented ones, QUANT_SCHEMES.
      extra_quant_schemes: list of schemes that are not in the table, made by
        [quant_scheme](#quant_scheme).
      extra_families: list of names of kernel families beyond the documented ones: `sm90`, which is
        for capability 9.0 alone, always compiled for `sm_90a`. Its kernels have another template
        and a selector of their own, `sm90_kernel_selector.h`. Default: the flag
        `--@marlin_moe_kernels//:extra_families`, whose default is all of them; none with
        `kernel_hdrs` of another kernel tree. `[]` leaves them out.
      srcs: hand-written CUDA sources that go with the kernels, such as the code that launches them.
        They can include `kernel_selector.h`, `hdrs` and `kernel_hdrs`, and are compiled for all
        architectures of the kernels.
      hdrs: public headers of `srcs`.
      deps: libraries that kernels and `srcs` need.
      kernel_hdrs: headers of the kernel template: `kernel.h`, `marlin_template.h`, and what they
        include. Default: those of this module,
        `@marlin_moe_kernels//csrc/marlin_moe:kernel_hdrs`. With this module's headers,
        generated files also include the header that decodes their weights. They are then compiled
        without exceptions in host code and without extended lambdas.
      type_namespace: C++ namespace of the scalar types (`vllm` in `vllm::kU4B8`).
      kernel_namespace: C++ namespace of the kernels. Two targets of one program that share kernels
        need different ones.
      selector: form of `kernel_selector.h`: `switch` (one switch over a packed key) or `chain`
        (`if` and `else if`).
      selector_fallback: C++ statement in one line that `kernel_selector.h` executes if there is no
        kernel for what is asked, such as `MY_CHECK(false, "no kernel");`. Default: none, so that the
        variable `kernel` stays as it is.
      copts: more options for nvcc.
      compress_mode: how nvcc compresses device code: `none`, `size`, `speed`, `balance` or
        `default`.
      features: more features, as for any rule.
      tags: as for any rule.
      target_compatible_with: as for any rule. Without CUDA the target is incompatible anyway.
      visibility: as for any rule.
      **kwargs: other attributes that every rule has, such as `testonly`.
    """
    family_archs = kwargs.pop(_FAMILY_ARCHS, {})
    checked = _check_archs(cuda_archs)
    if kernel_hdrs == None:
        kernel_hdrs = [_OWN_KERNEL_HDRS]
    own_template = _has_own_template(kernel_hdrs)
    common = dict(kwargs, features = features, tags = tags + ["manual"])
    marlin_generated(
        name = name + ".generated",
        archs_from_flag = cuda_archs == None,
        argument_error = (
            checked.error or
            _check_extra_families(extra_families, own_template) or
            _check_choice("selector", selector, _SELECTOR_STYLES) or
            _check_statement("selector_fallback", selector_fallback) or
            _check_choice("compress_mode", compress_mode, _COMPRESS_MODES) or
            _check_namespace("type_namespace", type_namespace) or
            _check_namespace("kernel_namespace", kernel_namespace)
        ),
        cuda_archs = [arch.name for arch in checked.archs],
        directory = name,
        extra_families = [str(family) for family in extra_families] if type(extra_families) == type([]) else [],
        extra_families_from_flag = extra_families == None,
        extra_quant_schemes = extra_quant_schemes,
        family_archs = family_archs,
        has_srcs = bool(srcs),
        kernel_namespace = str(kernel_namespace),
        quant_schemes = [scheme["name"] for scheme in QUANT_SCHEMES] if quant_schemes == None else quant_schemes,
        scheme_headers = own_template,
        selector = str(selector),
        selector_fallback = str(selector_fallback),
        type_namespace = str(type_namespace),
        visibility = ["//visibility:private"],
        **common
    )
    marlin_selector(
        name = name + ".selector",
        generated = name + ".generated",
        visibility = ["//visibility:private"],
        **common
    )
    marlin_kernel_headers(
        name = name + ".headers",
        hdrs = kernel_hdrs,
        visibility = ["//visibility:private"],
        **common
    )

    compiled = dict(
        common,
        target_compatible_with = target_compatible_with + requires_cuda(),
        visibility = ["//visibility:private"],
    )
    compiled.pop("features")

    # Other templates, and srcs, may need what is left out.
    lean_features = LEAN_FEATURES if own_template else []
    lean_copts = LEAN_COPTS if own_template else []
    lean_host_copts = LEAN_STUBS_HOST_COPTS if own_template else []
    options = KERNEL_COPTS + ["--compress-mode={}".format(compress_mode)]
    libraries = {}
    if srcs:
        libraries[ANY_FAMILY] = name + ".srcs"
        cuda_library(
            name = name + ".srcs",
            srcs = srcs,
            hdrs = hdrs,
            copts = options + HOST_OPTIMISED + copts,
            features = KERNEL_FEATURES + features,
            archs = _target_specs(ANY_FAMILY, cuda_archs, checked.archs, {}),
            deps = [name + ".headers", name + ".selector"] + deps,
            **compiled
        )
    for family in FAMILIES:
        for group in source_groups(family, own_template):
            libraries[group.name] = "{}.{}".format(name, group.name)
            native.filegroup(
                name = libraries[group.name] + ".generated",
                srcs = [name + ".generated"],
                output_group = group.name,
                visibility = ["//visibility:private"],
                **common
            )
            scheme_hdrs = [Label("//csrc/marlin_moe/kernel:" + group.header)] if group.header else []
            if family["extra"]:
                scheme_hdrs.append(Label("//csrc/marlin_moe/kernel/{0}:{0}".format(family["name"])))
            cuda_library(
                name = libraries[group.name],
                srcs = [libraries[group.name] + ".generated"],
                copts = options + lean_copts + STUBS_OPTIMISED + copts,
                features = KERNEL_FEATURES + lean_features + features,
                host_copts = lean_host_copts,
                archs = _target_specs(family["name"], cuda_archs, checked.archs, family_archs),
                deps = [name + ".headers"] + scheme_hdrs + deps,
                **compiled
            )
    marlin_kernels_library(
        name = name,
        hdrs = hdrs,
        compiled = libraries.values(),
        features = features,
        generated = name + ".generated",
        selector = name + ".selector",
        tags = tags,
        target_compatible_with = target_compatible_with + requires_cuda(),
        visibility = visibility,
        deps = libraries.values() + deps,
        **kwargs
    )

def kernels_for_family_archs(name, family_archs, **kwargs):
    """As marlin_moe_kernels, for tests on a GPU that a kernel family is not meant for.

    Args:
      name: name of the target.
      family_archs: dict from kernel family to the list of architectures that its files are compiled
        for, whatever is asked for.
      **kwargs: arguments of marlin_moe_kernels().
    """
    marlin_moe_kernels(name = name, **(kwargs | {_FAMILY_ARCHS: family_archs}))
