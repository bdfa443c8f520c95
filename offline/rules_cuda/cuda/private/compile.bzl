"""Compiles CUDA sources with nvcc, one action and one object each."""

load("@rules_cc//cc:action_names.bzl", "ACTION_NAMES")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load(":settings.bzl", "gencode_flags")
load(":toolchain.bzl", "find_cuda_toolchain")

HEADERS = [".cuh", ".h", ".hpp", ".hh", ".inl", ".inc"]
SOURCES = [".cc", ".cpp", ".cu"]

# The rules themselves decide these: the phase of the compilation, and the architectures.
_FORBIDDEN_PREFIXES = (
    "--generate-code",
    "-gencode",
    "--gpu-architecture",
    "-arch",
    "--gpu-code",
    "-code",
    "--relocatable-device-code",
    "-rdc",
)
_FORBIDDEN = [
    "--cuda",
    "-cuda",
    "--preprocess",
    "-E",
    "--compile",
    "-c",
    "--cubin",
    "-cubin",
    "--ptx",
    "-ptx",
    "--fatbin",
    "-fatbin",
    "--device-link",
    "-dlink",
    "--lib",
    "-lib",
    "--generate-dependencies",
    "-M",
    "--generate-nonsystem-dependencies",
    "-MM",
    "--run",
    "-run",
]

_MODE_FLAGS = {
    "dbg": ["-O0", "-g"],
    "fastbuild": ["-O0", "-Xcompiler", "-g1"],
    "opt": [
        "-Xcompiler",
        "-g0",
        "-O2",
        "-DNDEBUG",
        "-Xcompiler",
        "-ffunction-sections",
        "-Xcompiler",
        "-fdata-sections",
        "--dopt",
        "on",
    ],
}

# Flags of features that are on unless a target disables them.
_FEATURE_FLAGS = {
    "nvcc_relaxed_constexpr": "--expt-relaxed-constexpr",
    "nvcc_extended_lambda": "--extended-lambda",
}

# Seeds nvcc's random names with the object's path.
_SEED_FEATURE = "nvcc_fixed_random_seed"

def _mode_flags(ctx):
    """The flags of the compilation mode, a feature that targets can disable or replace."""
    modes = [
        mode
        for mode in _MODE_FLAGS
        if (mode == ctx.var["COMPILATION_MODE"] or mode in ctx.features) and
           mode not in ctx.disabled_features
    ]
    return [flag for mode in modes for flag in _MODE_FLAGS[mode]]

def check_options(options):
    """Fails on options that would undo what the rules decide.

    Args:
        options: options that a target or the command line gives to nvcc
    """
    for option in options:
        option = option.strip()
        if option.startswith(_FORBIDDEN_PREFIXES) or option in _FORBIDDEN:
            fail(option, "is not allowed to be specified directly via copts of rules_cuda related rules")

def _host_toolchain_flags(common):
    """The host compiler's own options, without those that nvcc sets."""
    variables = cc_common.create_compile_variables(
        cc_toolchain = common.cc_toolchain,
        feature_configuration = common.features,
    )
    flags = cc_common.get_memory_inefficient_command_line(
        action_name = ACTION_NAMES.cpp_compile,
        feature_configuration = common.features,
        variables = variables,
    )
    return [
        flag
        for flag in flags
        if flag != "-c" and not flag.startswith(("-std=", "--sysroot"))
    ]

def _object_names(sources):
    """The objects' names. A number tells those of sources with the same name apart."""
    groups = {}
    for source in sources:
        groups.setdefault(source.basename.rpartition(".")[0], []).append(source)
    names = {}
    for stem, group in groups.items():
        for index, source in enumerate(group):
            names[source] = "{}/{}".format(index, stem) if len(group) > 1 else stem
    return names

def _environment(ctx, host_compiler, cuda_toolchain):
    directories = [host_compiler.rpartition("/")[0], cuda_toolchain.bin_directory]
    inherited = ctx.configuration.default_shell_env.get("PATH", "/usr/bin:/bin")
    return {"PATH": ":".join([path for path in directories if path] + [inherited])}

def _arguments(ctx, common, source, object_file, host_compiler, pic):
    context = common.compilation_context
    arguments = ctx.actions.args()
    arguments.add_all(["-x", "cu"])
    arguments.add_all(gencode_flags(common.archs))
    if pic:
        arguments.add_all(["-Xcompiler", "-fPIC"])
    arguments.add_all(["-ccbin", host_compiler])
    arguments.add_all(context.quote_includes, before_each = "-I")
    arguments.add_all(context.includes, before_each = "-I")
    arguments.add_all(context.system_includes, before_each = "-isystem")
    arguments.add_all(context.external_includes, before_each = "-isystem")
    arguments.add_all(_mode_flags(ctx))
    arguments.add_all(ctx.attr.local_defines, format_each = "-D%s")
    arguments.add_all(common.defines, format_each = "-D%s")
    arguments.add_all(ctx.attr.host_local_defines, format_each = "-D%s")
    arguments.add_all(context.defines, format_each = "-D%s")
    arguments.add_all(common.copts)
    arguments.add_all(common.host_copts, before_each = "-Xcompiler")
    arguments.add_all(_host_toolchain_flags(common), before_each = "-Xcompiler")
    arguments.add_all(ctx.attr.ptxasopts, before_each = "-Xptxas")
    arguments.add("-c", source)
    arguments.add("-o", object_file)
    arguments.add_all([
        flag
        for feature, flag in _FEATURE_FLAGS.items()
        if feature not in ctx.disabled_features
    ])
    if _SEED_FEATURE not in ctx.disabled_features:
        arguments.add(object_file, format = "--frandom-seed=%s")
    return arguments

def compile(ctx, common, *, pic):
    """Declares one compilation for each source of a target.

    Args:
        ctx: of a rule with the toolchains of C++ and CUDA
        common: what cuda_library.bzl gathers from the target
        pic: whether the objects are position-independent

    Returns:
        The objects, in the order of the sources.
    """
    cuda_toolchain = find_cuda_toolchain(ctx)
    host_compiler = cc_common.get_tool_for_action(
        action_name = ACTION_NAMES.cpp_compile,
        feature_configuration = common.features,
    )
    objects = []
    for source, name in _object_names(common.sources).items():
        suffix = ".pic.o" if pic else ".o"
        object_file = ctx.actions.declare_file("_objs/{}/{}{}".format(ctx.label.name, name, suffix))
        objects.append(object_file)
        ctx.actions.run(
            executable = cuda_toolchain.compiler_executable,
            arguments = [_arguments(ctx, common, source, object_file, host_compiler, pic)],
            env = _environment(ctx, host_compiler, cuda_toolchain),
            inputs = depset([source], transitive = [
                common.compilation_context.headers,
                common.cc_toolchain.all_files,
                cuda_toolchain.all_files,
            ]),
            mnemonic = "CudaCompile",
            outputs = [object_file],
            progress_message = "Compiling " + source.short_path,
        )
    return objects
