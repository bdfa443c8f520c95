"""The generator's command line: its options, and what each combination of them does."""

import argparse
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from marlin_gen import spec as specs
from marlin_gen.errors import GeneratorError, problem_of, spelled
from marlin_gen.generation import generate_new_kernels, generate_outputs, remove_old_kernels
from marlin_gen.json_files import read_json
from marlin_gen.listing import filter_kernels, kernel_table
from marlin_gen.render import kernels_of, manifest
from marlin_gen.schemes import table_schemes
from marlin_gen.tables import load_tables

# What is an architecture, or means to be one, rather than a directory.
_ARCH = re.compile(r"(sm_?)?\d+(\.\d*)?[a-z]*(\+\w*)?", re.IGNORECASE)


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; {self.prog} --help shows all options\n")


def _parser(description: str) -> _Parser:
    summary, _, details = description.partition("\n\n")
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


def main(description: str) -> int:
    """Runs the command line; returns 0, or 1 after a message about what is wrong.

    Args:
      description: what --help prints: a summary, an empty line, and the rest.
    """
    # `gen.py ... --list | head` ends quietly, and a name that the terminal cannot show is escaped.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    parser = _parser(description)
    options = parser.parse_args()
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
