"""Writes the Marlin MoE kernel files, their selector and their manifest.

On the command line, with every kernel of the table that the architectures can run:
  gen.py "8.0,8.9,9.0" [DIR] [--schemes gptq_int4,mxfp4] [--scheme FILE.json ...]
         [--selector switch|chain] [--type-namespace NAME] [--kernel-namespace NAME]
         [--no-scheme-headers] [--selector-fallback STATEMENT] [--extra-families sm90]
         [--clean]
  gen.py "8.0,8.9" --list [--json] [--filter schemes=mxfp4 ...]
                                       shows the kernels, writes nothing
  gen.py --list-schemes                shows the names for --schemes
  gen.py --clean [--out-dir DIR]       removes what this program wrote into DIR

DIR, or --out-dir DIR, defaults to the working directory. Separate architectures by commas,
semicolons or spaces; several arguments are one list, as CMake expands "80;90".

FILE.json describes a custom scheme: an object with the fields of quant_scheme() in a BUILD file.
  {"name": "my_int4", "a_type": ["kFloat16"], "b_type": "kU4", "thread_configs": [[128, 128, 256]],
   "thread_m_blocks": [1, 2], "group_blocks": [4]}

As a build action, with the spec that the Bazel rule writes:
  gen.py --spec SPEC --outputs FILE...

Kernels that share family and types of activations, weights and output are in one file, or in parts
FILE.cu, FILE_2.cu, ... that hold some kinds of scales each, so that no compile is long. Besides
kernel.h and marlin_template.h a file includes the one header of this module that decodes its
weights, so that a change of that header compiles no other file.

The program removes files of an earlier run that are no longer wanted from DIR, and touches nothing
else there. The exit status is 0, 1 if something is not allowed, 2 if options do not go together.
"""

import sys

if __name__ == "__main__" and sys.hexversion < 0x030A0000:
    # Before anything that an old Python does not have or cannot even read.
    _given = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"gen.py: error: this is Python {_given}; run it with Python 3.10 or newer")

import argparse
import importlib.util
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__" and importlib.util.find_spec("jinja2") is None:
    sys.exit(
        "gen.py: error: the package jinja2 is missing; "
        f"{sys.executable} -m pip install jinja2 installs it"
    )

# The package next to this file, also where this file is a link, as in Bazel's runfiles.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from marlin_gen import spec as specs
from marlin_gen.errors import GeneratorError, problem_of, spelled
from marlin_gen.json_files import read_json
from marlin_gen.listing import filter_kernels, kernel_table
from marlin_gen.output import refuse_strangers, remove_files, write_files
from marlin_gen.render import kernels_of, manifest, render
from marlin_gen.schemes import table_schemes
from marlin_gen.tables import load_tables

# What generate_new_kernels() generates for if neither its caller nor the command line says it.
DEFAULT_ARCHS = "8.0,8.9"

# What is an architecture, or means to be one, rather than a directory.
_ARCH = re.compile(r"(sm_?)?\d+(\.\d*)?[a-z]*(\+\w*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has written and removed, and all the files that are there now."""

    files: tuple[Path, ...]
    written: tuple[Path, ...]
    removed: tuple[Path, ...]


def remove_old_kernels(out_dir: str | os.PathLike[str] = ".") -> list[Path]:
    """Removes every file that the generator wrote into a directory, and returns them.

    Args:
      out_dir: the directory; default: the working directory.

    Raises:
      GeneratorError: there is no such directory.
    """
    return remove_files(Path(out_dir))


def generate_new_kernels(
    archs: str | None = None,
    out_dir: str | os.PathLike[str] = ".",
    *,
    schemes: Sequence[str] | None = None,
    extra_schemes: Sequence[Mapping[str, Any]] = (),
    selector: str = specs.DEFAULT_SELECTOR,
    type_namespace: str = specs.DEFAULT_TYPE_NAMESPACE,
    kernel_namespace: str = specs.DEFAULT_KERNEL_NAMESPACE,
    scheme_headers: bool = True,
    selector_fallback: str = "",
    extra_families: Sequence[str] = (),
    clean: bool = False,
) -> Report:
    """Writes every kernel file, kernel_selector.h and manifest.json into a directory.

    Args:
      archs: CUDA architectures such as "8.0, sm_89 9.0a+PTX"; None: the first argument of the
        program's command line, or DEFAULT_ARCHS if there is none.
      out_dir: the directory; it is made if it is not there. Unchanged files are not touched, and
        files of an earlier run that are not wanted any more are removed. Default: the working
        directory.
      schemes: names of the table's quantisation schemes; None: the documented.
      extra_schemes: custom schemes, each with the fields that quant_scheme() takes in a BUILD file.
      selector: "switch" (one packed key) or "chain" (if / else if).
      type_namespace: C++ namespace of the scalar types.
      kernel_namespace: C++ namespace of the kernel template.
      scheme_headers: include the headers that this module's kernels have for certain types; other
        kernel trees have kernel.h and marlin_template.h only.
      selector_fallback: C++ statement in one line that the selector executes if there is no kernel
        for what is asked; empty: its variable `kernel` stays as it is.
      extra_families: names of families beyond the documented ones, where the architectures can run
        them: sm90.
      clean: remove the generator's files first, so that all are written anew.

    Returns:
      The files, and what changed.

    Raises:
      GeneratorError: an argument is not allowed, or a file that the generator did not write is in
        the way; nothing has been written then.
    """
    if archs is None:
        archs = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_ARCHS
    tables = load_tables()
    spec = specs.spec_for_archs(
        archs,
        tables,
        schemes=schemes,
        extra_schemes=extra_schemes,
        selector=selector,
        type_namespace=type_namespace,
        kernel_namespace=kernel_namespace,
        scheme_headers=scheme_headers,
        selector_fallback=selector_fallback,
        extra_families=extra_families,
    )
    directory = Path(out_dir)
    texts = render(spec, tables)
    files = {directory / name: text for name, text in texts.items()}
    refuse_strangers(files)
    removed = remove_files(directory) if clean and directory.is_dir() else []
    written = write_files(files)
    removed += remove_files(directory, keep=texts)
    return Report(tuple(files), tuple(written), tuple(removed))


def generate_outputs(spec_file: Path, outputs: Sequence[Path]) -> None:
    """Writes exactly the declared outputs of a build action.

    Args:
      spec_file: the spec as JSON.
      outputs: a path for each file of the spec; the base names say which is which.

    Raises:
      GeneratorError: the spec is not allowed, or the outputs are not the files it asks for.
    """
    texts = render(*specs.read_spec(spec_file))
    paths = {path.name: path for path in outputs}
    missing = [name for name in texts if name not in paths]
    extra = [name for name in paths if name not in texts]
    if missing or extra or len(paths) != len(outputs):
        raise GeneratorError(
            f"the outputs of {spec_file.name} must be its files, each once; "
            f"not declared: {', '.join(missing) or 'none'}; "
            f"not of this spec: {', '.join(extra) or 'none'}"
        )
    write_files({paths[name]: text for name, text in texts.items()})


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; {self.prog} --help shows all options\n")


def _parser() -> _Parser:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = _Parser(
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s ARCHS [DIR] [options]",
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="ARCHS [DIR]",
        help="CUDA architectures: 8.0, sm_89, 9.0a, 12.0+PTX; then where to write",
    )
    parser.add_argument(
        "--out-dir", metavar="DIR", help="where to write (default: the working directory)"
    )
    parser.add_argument(
        "--schemes", metavar="NAMES", help="quantisation schemes (default: the documented)"
    )
    parser.add_argument(
        "--scheme",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.json",
        help="a custom quantisation scheme, beside those of --schemes; may be repeated; "
        "to have it alone, name it there",
    )
    parser.add_argument(
        "--selector",
        default=specs.DEFAULT_SELECTOR,
        metavar="FORM",
        help="form of kernel_selector.h: switch, the default, finds a kernel by one packed key; "
        'chain has the documented "else if" branch for each kernel',
    )
    parser.add_argument("--type-namespace", default=specs.DEFAULT_TYPE_NAMESPACE, metavar="NAME")
    parser.add_argument(
        "--kernel-namespace", default=specs.DEFAULT_KERNEL_NAMESPACE, metavar="NAME"
    )
    parser.add_argument(
        "--no-scheme-headers",
        dest="scheme_headers",
        action="store_false",
        help="for kernels of another tree: include kernel.h and marlin_template.h only",
    )
    parser.add_argument(
        "--selector-fallback",
        default="",
        metavar="STATEMENT",
        help="C++ statement that the selector executes if it finds no kernel",
    )
    parser.add_argument(
        "--extra-families",
        default="",
        metavar="NAMES",
        help="families beyond the documented ones, where the architectures can run them: sm90",
    )
    parser.add_argument("--list", action="store_true", help="show the kernels, write nothing")
    parser.add_argument("--json", action="store_true", help="with --list: show the manifest")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="with --list: only kernels with this value, such as schemes=mxfp4; may be repeated",
    )
    parser.add_argument("--list-schemes", action="store_true", help="show the scheme names")
    parser.add_argument("--clean", action="store_true", help="remove this program's files first")
    parser.add_argument("--spec", type=Path, metavar="SPEC", help="build action: what to generate")
    parser.add_argument("--outputs", type=Path, nargs="+", metavar="FILE", help="build action")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, or 1 after a message about what is wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _run(options, parser)
        sys.stdout.flush()
    except GeneratorError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{parser.prog}: error: {problem_of(error)}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace, parser: _Parser) -> None:
    """Does what the options ask for; wrong combinations of them end the program."""
    archs, directory = _positional(options, parser)
    given = {n for n, v in vars(options).items() if v not in (parser.get_default(n), [])}
    if given & {"spec", "outputs"}:
        if given != {"spec", "outputs"}:
            parser.error("--spec and --outputs go together, and with nothing else")
        generate_outputs(options.spec, options.outputs)
    elif options.list_schemes:
        if given != {"list_schemes"}:
            parser.error("--list-schemes goes with nothing else: leave out the other arguments")
        print("\n".join(table_schemes(load_tables())))
    elif given & {"json", "filter"} and not options.list:
        parser.error("--json and --filter go with --list")
    elif options.list and (directory is not None or options.clean):
        parser.error("--list writes nothing: leave out the directory and --clean")
    elif options.clean and not archs:
        if given - {"clean", "out_dir"}:
            parser.error("--clean without architectures goes with --out-dir only")
        _print_clean(_from_user(directory or "."))
    elif not archs:
        parser.error(f'no architectures: give them as in {parser.prog} "8.0,8.9"')
    elif options.list:
        _print_kernels(archs, options)
    else:
        _print_generate(archs, _from_user(directory or "."), options)


def _positional(options: argparse.Namespace, parser: _Parser) -> tuple[str, str | None]:
    """The architectures, and the directory if one is given: behind them or with --out-dir."""
    archs = options.arguments[:1]
    rest = options.arguments[1:]
    while rest and all(_ARCH.fullmatch(w) for w in re.split(r"[,;\s]+", rest[0]) if w) and rest[0]:
        archs.append(rest.pop(0))
    if len(rest) > 1:
        parser.error(
            f"{' '.join(map(spelled, rest))}: one directory, behind the architectures; "
            "quote names with spaces"
        )
    if rest and options.out_dir is not None:
        parser.error(f"two directories, {spelled(rest[0])} and {spelled(options.out_dir)}")
    directory = rest[0] if rest else options.out_dir
    if directory == "":
        parser.error("the directory is empty; the working directory is .")
    return " ".join(archs), directory


def _from_user(path: str | Path) -> Path:
    """A path as the user means it: `bazel run` starts programs elsewhere, and says where he is."""
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), path)


def _choices(options: argparse.Namespace) -> dict[str, Any]:
    """The options that choose kernels and their form, as spec_for_archs() takes them."""
    names = options.schemes
    return {
        "schemes": None if names is None else names.replace(",", " ").split(),
        "extra_schemes": [
            read_json(_from_user(path), "quant scheme file") for path in options.scheme
        ],
        "selector": options.selector,
        "type_namespace": options.type_namespace,
        "kernel_namespace": options.kernel_namespace,
        "scheme_headers": options.scheme_headers,
        "selector_fallback": options.selector_fallback,
        "extra_families": options.extra_families.replace(",", " ").split(),
    }


def _print_kernels(archs: str, options: argparse.Namespace) -> None:
    tables = load_tables()
    spec = specs.spec_for_archs(archs, tables, **_choices(options))
    kernels = filter_kernels(kernels_of(spec, tables), options.filter)
    sys.stdout.write(manifest(spec, kernels) if options.json else kernel_table(kernels))


def _print_clean(directory: Path) -> None:
    removed = remove_old_kernels(directory)
    for path in removed:
        print(f"removed {path.name}")
    print(f"{len(removed)} files removed from {directory}")


def _print_generate(archs: str, directory: Path, options: argparse.Namespace) -> None:
    report = generate_new_kernels(archs, directory, clean=options.clean, **_choices(options))
    for path in sorted({*report.removed} - {*report.written}):
        print(f"removed {path.name}")
    for path in report.written:
        print(f"wrote {path.name}")
    print(
        f"{len(report.files)} files in {directory}: "
        f"{len(report.written)} written, {len(report.removed)} removed"
    )


if __name__ == "__main__":
    # `gen.py ... --list | head` ends quietly, and a name that the terminal cannot show is escaped.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
