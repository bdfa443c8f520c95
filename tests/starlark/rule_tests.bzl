"""Tests of the rule `marlin_moe_kernels`: what it declares, runs, compiles, hands on and refuses."""

load("@bazel_skylib//lib:unittest.bzl", "analysistest", "asserts")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")
load("//:defs.bzl", "MarlinKernelsInfo")
load("//private:quant_schemes.bzl", "SCHEME_HEADERS")
load(":rule_fixtures.bzl", "COMMON_FILES", "SM75_FILES", "SM80_FILES", "SM89_FILES")

_CUDA_ARCHS = str(Label("//:cuda_archs"))
_EXTRA_FAMILIES = str(Label("//:extra_families"))
_RULES_CUDA_ARCHS = str(Label("@rules_cuda//cuda:archs"))
_SASS = str(Label("//:sass"))
_COMPILATION_MODE = "//command_line_option:compilation_mode"

def _names(files):
    return [file.basename for file in files]

def _actions(env, mnemonic):
    return [action for action in analysistest.target_actions(env) if action.mnemonic == mnemonic]

def _written(env, name):
    """Returns the content of the file of this name that an action writes. There is one such action."""
    contents = [
        action.content
        for action in _actions(env, "FileWrite")
        if _names(action.outputs.to_list()) == [name]
    ]
    asserts.equals(env, 1, len(contents))
    return contents[0]

def _generated_files_impl(ctx):
    """Every file is declared, by one action that reads nothing of the package but the spec."""
    env = analysistest.begin(ctx)
    target = analysistest.target_under_test(env)
    files = target[DefaultInfo].files.to_list()
    asserts.equals(env, ctx.attr.files, _names(files))
    actions = _actions(env, "MarlinGenerate")
    asserts.equals(env, 1, len(actions))
    asserts.equals(env, files, actions[0].outputs.to_list())

    # The interpreter reads nothing of the user or the environment.
    asserts.equals(env, ["-I", "-S"], actions[0].argv[1:3])
    inputs = [file for file in actions[0].inputs.to_list() if file.owner == target.label]
    asserts.equals(env, ["spec.json"], _names(inputs))
    expected = ["--spec", inputs[0].path, "--outputs"] + [file.path for file in files]
    asserts.equals(env, expected, actions[0].argv[-len(expected):])
    return analysistest.end(env)

def _another_generator_impl(ctx):
    """The flag //:generator takes any program that has the same arguments."""
    env = analysistest.begin(ctx)
    (action,) = _actions(env, "MarlinGenerate")
    asserts.equals(env, "another_generator.sh", action.argv[0].rpartition("/")[2])
    asserts.equals(env, "--spec", action.argv[1])
    asserts.equals(env, "--outputs", action.argv[3])
    asserts.equals(env, [file.path for file in action.outputs.to_list()], action.argv[4:])
    return analysistest.end(env)

another_generator_test = analysistest.make(
    _another_generator_impl,
    config_settings = {str(Label("//:generator")): str(Label("//tests/starlark:kernels_another_generator"))},
)

def _built_for_impl(ctx):
    """Conditions hold for the capabilities that the flag asks for, whatever their variant."""
    env = analysistest.begin(ctx)
    asserts.equals(env, "8.0\n9.0\n", _written(env, "built_for.txt").rstrip("\n") + "\n")
    return analysistest.end(env)

built_for_test = analysistest.make(
    _built_for_impl,
    config_settings = {_CUDA_ARCHS: "sm_80,9.0a+PTX"},
)

_generated_files_attrs = {"files": attr.string_list()}

generated_files_test = analysistest.make(_generated_files_impl, attrs = _generated_files_attrs)

generated_files_for_sm89_test = analysistest.make(
    _generated_files_impl,
    attrs = _generated_files_attrs,
    config_settings = {_CUDA_ARCHS: "sm_89,8.0+PTX"},
)

generated_files_for_hopper_test = analysistest.make(
    _generated_files_impl,
    attrs = _generated_files_attrs,
    config_settings = {_CUDA_ARCHS: "9.0"},
)

generated_files_for_hopper_without_sm90_test = analysistest.make(
    _generated_files_impl,
    attrs = _generated_files_attrs,
    config_settings = {_CUDA_ARCHS: "9.0", _EXTRA_FAMILIES: ""},
)

def _number_of_files_impl(ctx):
    """With every scheme, a family has the documented number of files, not counting further parts."""
    env = analysistest.begin(ctx)
    names = _names(analysistest.target_under_test(env)[DefaultInfo].files.to_list())
    for family, count in ctx.attr.counts.items():
        files = [name for name in names if name.startswith(family + "_kernel_")]
        first_parts = [name for name in files if not name[:-len(".cu")].rpartition("_")[2].isdigit()]
        asserts.equals(env, int(count), len(first_parts), family)
    return analysistest.end(env)

_number_of_files_attrs = {"counts": attr.string_dict()}

number_of_files_for_sm80_test = analysistest.make(
    _number_of_files_impl,
    attrs = _number_of_files_attrs,
    config_settings = {_CUDA_ARCHS: "sm_80"},
)

number_of_files_for_sm120_test = analysistest.make(
    _number_of_files_impl,
    attrs = _number_of_files_attrs,
    config_settings = {_CUDA_ARCHS: "7.5 12.0"},
)

def _spec_without_archs_impl(ctx):
    """Requests that need the same families give the generator the same input."""
    env = analysistest.begin(ctx)
    content = _written(env, "spec.json")
    spec = json.decode(content)
    asserts.equals(env, ctx.attr.families, spec["families"])
    asserts.equals(env, ["gptq_int4", "gptq_int4_a8", "mxfp4_afp8"], [scheme["name"] for scheme in spec["schemes"]])
    asserts.equals(
        env,
        ["families", "kernel_namespace", "scheme_headers", "schemes", "selector", "selector_fallback", "tables", "type_namespace"],
        sorted(spec),
    )
    asserts.equals(env, ctx.attr.scheme_headers, spec["scheme_headers"])
    canonical = json.encode_indent(spec | {"families": ctx.attr.families}, indent = "  ") + "\n"
    asserts.equals(env, canonical, content)
    return analysistest.end(env)

def _kernels_built_impl(ctx):
    """Programs can say which schemes, families and architectures they hold, and choose a tile."""
    env = analysistest.begin(ctx)
    lines = _written(env, "kernels_built.h").split("\n")
    asserts.true(env, "#define MARLIN_KERNELS_BUILT \"{}\"".format(ctx.attr.built) in lines)
    rows = [line.strip(" \\") for line in lines if line.startswith("  ")]
    asserts.equals(env, rows, depset(rows).to_list(), "no row comes twice")
    families = [row for row in rows if row.startswith("FAMILY")]
    asserts.equals(env, ctx.attr.families, families)
    for template in ["Marlin", "MarlinSm90"]:
        tiles = [row for row in rows if row.startswith(template + "(")]
        expected = [tile for tile in ctx.attr.tiles if tile.startswith(template + "(")]
        asserts.equals(env, expected, [tile for tile in tiles if "kFloat16, 16," in tile or "kFE4M3fn, 64," in tile or "kBFloat16, 80," in tile])
    return analysistest.end(env)

kernels_built_test = analysistest.make(
    _kernels_built_impl,
    attrs = {
        "built": attr.string(doc = "What stands in messages."),
        "families": attr.string_list(doc = "Families, the first to prefer first."),
        "tiles": attr.string_list(
            doc = "Tiles with 16 rows of kFloat16, 64 rows of kFE4M3fn and 80 of kBFloat16.",
        ),
    },
)

_spec_attrs = {
    "families": attr.string_list(),
    "scheme_headers": attr.bool(default = True),
}

spec_without_archs_test = analysistest.make(_spec_without_archs_impl, attrs = _spec_attrs)

spec_without_archs_for_sm87_test = analysistest.make(
    _spec_without_archs_impl,
    attrs = _spec_attrs,
    config_settings = {_CUDA_ARCHS: " 9.0a+PTX , sm_87,87"},
)

def _gencodes(argv):
    return [argv[i + 1] for i in range(len(argv)) if argv[i] == "-gencode"]

def _compiled_impl(ctx):
    """A group's files are compiled for the archs that can use them, from few inputs."""
    env = analysistest.begin(ctx)
    actions = _actions(env, "CudaCompile")
    objects = [file for action in actions for file in action.outputs.to_list()]
    scheme_headers = [header["name"] + ".cuh" for header in SCHEME_HEADERS]
    pic = [file.basename.replace(".pic.o", ".cu") for file in objects if file.basename.endswith(".pic.o")]
    asserts.equals(env, sorted(ctx.attr.sources), sorted(pic))
    for action in actions:
        asserts.equals(env, ctx.attr.gencodes, _gencodes(action.argv))
        inputs = _names(action.inputs.to_list())
        asserts.true(env, "marlin_template.h" in inputs)
        asserts.equals(env, ctx.attr.scheme_headers, [name for name in inputs if name in scheme_headers])
        asserts.equals(env, ctx.attr.reads_selector, "kernel_selector.h" in inputs)
    return analysistest.end(env)

_compiled_attrs = {
    "gencodes": attr.string_list(),
    "reads_selector": attr.bool(),
    "scheme_headers": attr.string_list(doc = "Headers of certain types that the compiler can read."),
    "sources": attr.string_list(),
}

compiled_test = analysistest.make(_compiled_impl, attrs = _compiled_attrs)

compiled_for_flag_test = analysistest.make(
    _compiled_impl,
    attrs = _compiled_attrs,
    config_settings = {_CUDA_ARCHS: "12.0,8.6,12.1+PTX,8.0"},
)

compiled_for_hopper_test = analysistest.make(
    _compiled_impl,
    attrs = _compiled_attrs,
    config_settings = {_CUDA_ARCHS: "8.0,9.0+PTX", _EXTRA_FAMILIES: "sm90"},
)

compiled_for_flag_of_rules_cuda_test = analysistest.make(
    _compiled_impl,
    attrs = _compiled_attrs,
    config_settings = {_RULES_CUDA_ARCHS: "sm_86;compute_90:sm_90,compute_90"},
)

compiled_for_both_flags_test = analysistest.make(
    _compiled_impl,
    attrs = _compiled_attrs,
    config_settings = {_CUDA_ARCHS: "8.9", _RULES_CUDA_ARCHS: "sm_90"},
)

compiled_for_exact_flag_test = analysistest.make(
    _compiled_impl,
    attrs = _compiled_attrs,
    config_settings = {_CUDA_ARCHS: "12.0,8.6,12.1+PTX,8.0", _SASS: "exact"},
)

compiled_for_exact_test = analysistest.make(
    _compiled_impl,
    attrs = _compiled_attrs,
    config_settings = {_SASS: "exact"},
)

def _optimised_impl(ctx):
    """Kernels are optimised and free of debug information, whatever the compilation mode."""
    env = analysistest.begin(ctx)
    actions = _actions(env, "CudaCompile")
    asserts.true(env, actions)
    for action in actions:
        options = [option for option in action.argv if option.startswith("-")]
        asserts.equals(env, ["-O1"], [option for option in options if option.startswith("-O")])
        asserts.equals(env, ["-objtemp"], [option for option in options if option == "-objtemp"])
        seeds = [option for option in options if "frandom-seed" in option]
        asserts.equals(env, ["-frandom-seed=marlin_moe_kernels"], seeds)
        for required in ["-std=c++17", "-static-global-template-stub=false", "--compress-mode=size"]:
            asserts.true(env, required in options, required)
        for refused in ["-g", "-g1", "-g2", "-G", "-lineinfo", "-generate-line-info", "--device-debug"]:
            asserts.false(env, refused in options, refused)
    return analysistest.end(env)

optimised_in_fastbuild_test = analysistest.make(
    _optimised_impl,
    config_settings = {_COMPILATION_MODE: "fastbuild"},
)

optimised_in_dbg_test = analysistest.make(
    _optimised_impl,
    config_settings = {_COMPILATION_MODE: "dbg"},
)

optimised_in_opt_test = analysistest.make(
    _optimised_impl,
    config_settings = {_COMPILATION_MODE: "opt"},
)

def _options_reach_nvcc_impl(ctx):
    """copts and compress_mode are options of every compilation."""
    env = analysistest.begin(ctx)
    actions = _actions(env, "CudaCompile")
    asserts.true(env, actions)
    for action in actions:
        asserts.true(env, "-DOPTION" in action.argv)
        asserts.equals(env, ["--compress-mode=none"], [option for option in action.argv if "compress-mode" in option])
    return analysistest.end(env)

options_reach_nvcc_test = analysistest.make(_options_reach_nvcc_impl)

# Options that make a compile read and keep less, and one that makes it read more.
_LEAN_OPTIONS = ["-D_GLIBCXX_BITS_SPECFUN_H=1", "-fno-exceptions"]
_LAMBDA_OPTION = "--extended-lambda"

def _lean_impl(ctx):
    """This module's template is compiled without unused headers and exceptions, other code with them."""
    env = analysistest.begin(ctx)
    actions = _actions(env, "CudaCompile")
    asserts.true(env, actions)
    for action in actions:
        asserts.equals(env, not ctx.attr.lean, _LAMBDA_OPTION in action.argv)
        for option in _LEAN_OPTIONS:
            asserts.equals(env, ctx.attr.lean, option in action.argv, option)
    return analysistest.end(env)

lean_test = analysistest.make(_lean_impl, attrs = {"lean": attr.bool(mandatory = True)})

# The compiled groups of the schemes for all families, in link order.
_GROUPS = [
    "srcs",
    "sm75.int4_weights",
    "sm75.int8_activations",
    "sm80.int4_weights",
    "sm80.int8_activations",
    "sm89.fp8_activations",
]

def _handed_on_impl(ctx):
    """Dependents get one PIC archive per group in use, the selector, and a description."""
    env = analysistest.begin(ctx)
    target = analysistest.target_under_test(env)
    archives = target[DefaultInfo].files.to_list()
    asserts.equals(env, ["lib{}.{}.a".format(target.label.name, group) for group in _GROUPS], _names(archives))
    linked = [
        library
        for linker_input in target[CcInfo].linking_context.linker_inputs.to_list()
        for library in linker_input.libraries
        if linker_input.owner == target.label
    ]
    asserts.equals(env, archives, [library.pic_static_library for library in linked])
    asserts.equals(env, [None] * len(_GROUPS), [library.static_library for library in linked])

    info = target[MarlinKernelsInfo]
    asserts.equals(env, ["7.5", "8.0", "8.9", "12.0f+PTX"], info.archs)
    asserts.equals(env, ["sm75", "sm80", "sm89"], info.families)
    asserts.equals(env, ["gptq_int4", "gptq_int4_a8", "mxfp4_afp8"], info.schemes)
    asserts.equals(env, ["compute_75:sm_75"], info.specs["sm75"])
    asserts.equals(env, ["compute_89:sm_89", "compute_120f:sm_120f", "compute_120f:compute_120f"], info.specs["sm89"])
    sources = _names(info.sources.to_list())
    asserts.equals(env, SM75_FILES + SM80_FILES + SM89_FILES, sources)

    groups = target[OutputGroupInfo]
    asserts.equals(env, [info.selector], groups.selector.to_list())
    asserts.equals(env, [info.manifest], groups.manifest.to_list())
    asserts.equals(env, sources + COMMON_FILES, _names(groups.generated.to_list()))
    objects = ["launcher.pic.o"] + [name.replace(".cu", ".pic.o") for name in sources]
    asserts.equals(env, objects, _names(groups.objects.to_list()))

    headers = target[CcInfo].compilation_context
    asserts.true(env, info.selector in headers.headers.to_list())
    asserts.true(env, info.selector.dirname in headers.quote_includes.to_list())
    return analysistest.end(env)

handed_on_test = analysistest.make(_handed_on_impl)

_WalkedInfo = provider(doc = "What an aspect saw.", fields = {"names": "Depset of names of targets."})

def _walk_impl(target, ctx):
    deps = [dep[_WalkedInfo].names for dep in getattr(ctx.rule.attr, "deps", []) if _WalkedInfo in dep]
    return [_WalkedInfo(names = depset([target.label.name], transitive = deps))]

_walk = aspect(implementation = _walk_impl, attr_aspects = ["deps"])

def _deps_impl(ctx):
    """Data and covered sources of dependencies are handed on, and aspects over deps see them and the kernels."""
    env = analysistest.begin(ctx)
    target = analysistest.target_under_test(env)
    runfiles = target[DefaultInfo].default_runfiles.files.to_list()
    asserts.true(env, "helper_data.txt" in _names(runfiles))
    covered = target[InstrumentedFilesInfo].instrumented_files.to_list()
    asserts.true(env, "helper.cc" in _names(covered))
    walked = target[_WalkedInfo].names.to_list()
    for name in ["kernels_helper", "kernels_with_deps.sm80.int4_weights"]:
        asserts.true(env, name in walked, name)
    return analysistest.end(env)

deps_test = analysistest.make(
    _deps_impl,
    config_settings = {
        "//command_line_option:collect_code_coverage": True,
        "//command_line_option:instrumentation_filter": "//tests/starlark[/:]",
    },
    extra_target_under_test_aspects = [_walk],
)

def _unused_families_are_left_out_impl(ctx):
    """A family that no architecture asked for uses, or a group without files, leaves no archive behind."""
    env = analysistest.begin(ctx)
    archives = _names(analysistest.target_under_test(env)[DefaultInfo].files.to_list())
    asserts.equals(env, 3, len(archives))
    asserts.true(env, ".srcs." in archives[0], archives[0])
    asserts.true(env, ".sm80.int4_weights." in archives[1], archives[1])
    asserts.true(env, ".sm80.int8_activations." in archives[2], archives[2])
    return analysistest.end(env)

unused_families_are_left_out_test = analysistest.make(_unused_families_are_left_out_impl)

def _wrong_argument_is_named_impl(ctx):
    """A wrong argument fails the target with what was given and what is allowed."""
    env = analysistest.begin(ctx)
    asserts.expect_failure(env, ctx.attr.message)
    return analysistest.end(env)

wrong_argument_is_named_test = analysistest.make(
    _wrong_argument_is_named_impl,
    attrs = {"message": attr.string(mandatory = True)},
    expect_failure = True,
)

def _wrong_flag_is_named_test(flags):
    """Makes a test that a target fails under flags with a given message."""
    return analysistest.make(
        _wrong_argument_is_named_impl,
        attrs = {"message": attr.string(mandatory = True)},
        config_settings = flags,
        expect_failure = True,
    )

wrong_flag_is_named_test = _wrong_flag_is_named_test({_CUDA_ARCHS: "8.0,8.1"})

wrong_flag_of_rules_cuda_is_named_test = _wrong_flag_is_named_test({_RULES_CUDA_ARCHS: "sm_70;sm_80"})

lto_in_flag_of_rules_cuda_is_named_test = _wrong_flag_is_named_test({_RULES_CUDA_ARCHS: "lto_80"})

empty_flag_is_named_test = _wrong_flag_is_named_test({_CUDA_ARCHS: " , "})

wrong_extra_families_flag_is_named_test = _wrong_flag_is_named_test({_EXTRA_FAMILIES: "sm90,sm100"})
