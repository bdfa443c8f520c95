"""How the generator is run: its Python program, by an interpreter that sees nothing else.

A py_binary would be found by a launcher, which looks for an interpreter on the machine, and that
reads the user's site-packages and PYTHON* variables. So the action starts the interpreter of the
toolchain itself, with -I -S: it imports from the standard library and from what is declared.
"""

load("@rules_python//python:py_info.bzl", "PyInfo")
load(":providers.bzl", "MarlinGeneratorInfo")

visibility("//...")

_TOOLCHAIN = "@rules_python//python:toolchain_type"

# Whatever the default of the root module is: the wheels of the generator are for this one.
_PYTHON_VERSION = "3.12"

_VERSION_FLAG = str(Label("@rules_python//python/config_settings:python_version"))

_pinned_python = transition(
    implementation = lambda _settings, _attr: {_VERSION_FLAG: _PYTHON_VERSION},
    inputs = [],
    outputs = [_VERSION_FLAG],
)

def _import_folders(imports, files):
    """Returns the paths, as an action sees them, of the folders that PyInfo.imports names."""
    folders = {}
    for folder in imports:
        repository, _, path = folder.partition("/")
        for file in files:
            root = file.short_path.removeprefix("../{}/".format(repository))
            if root != file.short_path and root.startswith(path + "/"):
                folders[file.path.removesuffix(root) + path] = None
    return folders.keys()

def _marlin_generator_impl(ctx):
    runtime = ctx.toolchains[_TOOLCHAIN].py3_runtime
    files = depset(
        [ctx.file.main, ctx.file._start],
        transitive = [runtime.files or depset()] + [
            files
            for dep in ctx.attr.deps
            for files in [dep[DefaultInfo].default_runfiles.files, dep[PyInfo].transitive_sources]
        ],
    )
    imports = depset(transitive = [dep[PyInfo].imports for dep in ctx.attr.deps])
    return [MarlinGeneratorInfo(
        files = files,
        folders = _import_folders(imports.to_list(), files.to_list()),
        interpreter = runtime.interpreter or runtime.interpreter_path,
        main = ctx.file.main,
        start = ctx.file._start,
    )]

marlin_generator = rule(
    implementation = _marlin_generator_impl,
    attrs = {
        "deps": attr.label_list(
            doc = "Python libraries that the program imports.",
            providers = [PyInfo],
        ),
        "main": attr.label(
            allow_single_file = [".py"],
            doc = "The program. It finds the modules beside it by itself.",
            mandatory = True,
        ),
        "_start": attr.label(allow_single_file = True, default = "//tools/marlin_gen:start.py"),
    },
    cfg = _pinned_python,
    doc = "A Python program that writes kernels, for the flag `//:generator`.",
    provides = [MarlinGeneratorInfo],
    toolchains = [_TOOLCHAIN],
)

def run_generator(ctx, generator, arguments, inputs, **kwargs):
    """Declares the action that runs a generator.

    Args:
      ctx: of the rule.
      generator: a target of marlin_generator(), or any program.
      arguments: Args of the program.
      inputs: list of the Files that the program reads.
      **kwargs: whatever else ctx.actions.run() takes.
    """
    if MarlinGeneratorInfo not in generator:
        ctx.actions.run(
            executable = generator[DefaultInfo].files_to_run,
            arguments = [arguments],
            inputs = inputs,
            toolchain = None,
            **kwargs
        )
        return
    info = generator[MarlinGeneratorInfo]

    # -B: write no bytecode beside the inputs.
    start = ctx.actions.args()
    start.add_all(["-I", "-S", "-B"])
    start.add(info.start)
    start.add_all(info.folders)
    start.add("--")
    start.add(info.main)
    ctx.actions.run(
        executable = info.interpreter,
        arguments = [start, arguments],
        inputs = depset(inputs, transitive = [info.files]),
        # The interpreter comes with the generator, which was configured for the execution platform.
        toolchain = None,
        **kwargs
    )
