"""Builds a wheel (PEP 427) of files, with the attributes that rules_python's py_wheel has for it."""

_TOOLCHAIN = "@bazel_tools//tools/python:toolchain_type"

_CONTENT_TYPES = {
    "md": "text/markdown",
    "rst": "text/x-rst",
}

def _escape(part):
    """Puts a part of a wheel's name into the characters allowed there."""
    return "".join([char if char.isalnum() or char in "._" else "_" for char in part.elems()])

def _file_argument(file):
    """Spells a file as `place in its repository;path`."""
    place = file.short_path
    if place.startswith("../"):
        place = place.split("/", 2)[2]
    return "{};{}".format(place, file.path)

def _metadata(ctx):
    """Returns the fields of METADATA, in the order in which they are written."""
    fields = [
        ("Metadata-Version", "2.1"),
        ("Name", ctx.attr.distribution),
        ("Version", ctx.attr.version),
        ("Summary", ctx.attr.summary),
        ("Home-page", ctx.attr.homepage),
        ("License", ctx.attr.license),
        ("Requires-Python", ctx.attr.python_requires),
    ]
    fields += [("Classifier", classifier) for classifier in ctx.attr.classifiers]
    fields += [("Requires-Dist", requirement) for requirement in ctx.attr.requires]
    for extra, requirements in sorted(ctx.attr.extra_requires.items()):
        fields.append(("Provides-Extra", extra))
        fields += [
            ("Requires-Dist", "{}; extra == '{}'".format(requirement, extra))
            for requirement in requirements
        ]
    if ctx.file.description_file:
        kind = _CONTENT_TYPES.get(ctx.file.description_file.extension, "text/plain")
        fields.append(("Description-Content-Type", kind))
    return "".join(["{}: {}\n".format(*field) for field in fields if field[1]])

def _distinfo_arguments(ctx):
    """Returns the further files of the .dist-info folder, each with its name there."""
    files = []
    for target, name in ctx.attr.extra_distinfo_files.items():
        found = target[DefaultInfo].files.to_list()
        if len(found) != 1:
            fail("extra_distinfo_files: {} has {} files; allowed: one".format(target.label, len(found)))
        files.append((name, found[0]))
    return files

def _py_wheel_impl(ctx):
    name = _escape(ctx.attr.distribution.replace("-", "_").replace(".", "_").lower())
    tag = "-".join([_escape(part) for part in (ctx.attr.python_tag, ctx.attr.abi, ctx.attr.platform)])
    wheel = ctx.actions.declare_file("{}-{}-{}.whl".format(name, ctx.attr.version, tag))
    metadata = ctx.actions.declare_file(ctx.label.name + ".metadata.txt")
    ctx.actions.write(metadata, _metadata(ctx))
    inputs = [metadata] + ctx.files.deps

    runtime = ctx.toolchains[_TOOLCHAIN].py3_runtime
    start = ctx.actions.args()
    start.add_all(["-I", "-B"])
    start.add(ctx.file._make_wheel)
    args = ctx.actions.args()
    args.use_param_file("@%s", use_always = True)
    args.set_param_file_format("multiline")
    args.add("--out", wheel)
    args.add("--folder", "{}-{}".format(name, ctx.attr.version))
    args.add("--tag", tag)
    args.add("--metadata", metadata)
    if ctx.file.description_file:
        args.add("--description", ctx.file.description_file)
        inputs.append(ctx.file.description_file)
    args.add_all(ctx.attr.strip_path_prefixes, before_each = "--strip")
    for file_name, file in _distinfo_arguments(ctx):
        args.add("--distinfo", file, format = file_name + ";%s")
        inputs.append(file)
    args.add_all(ctx.files.deps, map_each = _file_argument)

    ctx.actions.run(
        executable = runtime.interpreter,
        arguments = [start, args],
        inputs = inputs + [ctx.file._make_wheel],
        outputs = [wheel],
        mnemonic = "PyWheel",
        progress_message = "Building wheel %{label}",
        toolchain = _TOOLCHAIN,
    )
    return [DefaultInfo(files = depset([wheel]), runfiles = ctx.runfiles([wheel]))]

py_wheel = rule(
    doc = "A wheel of the files of `deps`, their dependencies left out.",
    implementation = _py_wheel_impl,
    attrs = {
        "abi": attr.string(default = "none", doc = "ABI tag."),
        "classifiers": attr.string_list(doc = "Trove classifiers."),
        "deps": attr.label_list(allow_files = True, doc = "Targets whose files are packaged."),
        "description_file": attr.label(allow_single_file = True, doc = "Long description."),
        "distribution": attr.string(mandatory = True, doc = "Name of the distribution."),
        "extra_distinfo_files": attr.label_keyed_string_dict(
            allow_files = True,
            doc = "Further files of the .dist-info folder, with their names there.",
        ),
        "extra_requires": attr.string_list_dict(doc = "Requirements of extras."),
        "homepage": attr.string(doc = "Address of the project."),
        "license": attr.string(doc = "SPDX expression."),
        "platform": attr.string(default = "any", doc = "Platform tag."),
        "python_requires": attr.string(doc = "Python versions, as in `>=3.10`."),
        "python_tag": attr.string(default = "py3", doc = "Python tag."),
        "requires": attr.string_list(doc = "Requirements."),
        "stamp": attr.int(default = 0, values = [0], doc = "Wheels are never stamped here."),
        "strip_path_prefixes": attr.string_list(
            doc = "The first of these that a file's path starts with is cut off.",
        ),
        "summary": attr.string(doc = "One line."),
        "version": attr.string(mandatory = True, doc = "A normalised version."),
        "_make_wheel": attr.label(
            allow_single_file = True,
            default = Label("//private:make_wheel.py"),
        ),
    },
    toolchains = [_TOOLCHAIN],
)
