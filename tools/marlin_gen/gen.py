"""Writes the Marlin MoE kernel files, their selector and their manifest.

On the command line, with every kernel of the table that the architectures can run:
  gen.py "8.0,8.9,9.0" --out-dir DIR [--schemes gptq_int4,mxfp4] [--selector switch|chain]
         [--type-namespace NAME] [--kernel-namespace NAME] [--no-scheme-headers]
         [--selector-fallback STATEMENT] [--clean]
  gen.py "8.0,8.9" --list [--json] [--filter schemes=mxfp4 ...]
                                       shows the kernels, writes nothing
  gen.py --list-schemes                shows the names for --schemes
  gen.py --clean --out-dir DIR         removes what this program wrote into DIR

As a build action, with the spec that the Bazel rule writes:
  gen.py --spec SPEC --outputs FILE...

Kernels that share family and types of activations, weights and output are in one file, or in parts
FILE.cu, FILE_2.cu, ... that hold some kinds of scales each, so that no compile is long. Besides
kernel.h and marlin_template.h a file includes the one header of this module that decodes its
weights, so that a change of that header compiles no other file.

Files of an earlier run that are not wanted any more are removed from DIR. Nothing else there is
ever touched.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The package next to this file, also where this file is a link, as in Bazel's runfiles.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from marlin_gen import spec as specs
from marlin_gen.errors import GeneratorError
from marlin_gen.kernels import Instantiation
from marlin_gen.output import refuse_strangers, remove_files, write_files
from marlin_gen.render import kernels_of, manifest, render
from marlin_gen.schemes import table_schemes
from marlin_gen.tables import load_tables


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has written and removed, and all the files that are there now."""

    files: tuple[Path, ...]
    written: tuple[Path, ...]
    removed: tuple[Path, ...]


def remove_old_kernels(out_dir: str | os.PathLike[str]) -> list[Path]:
    """Removes every file that the generator wrote into a directory, and returns them."""
    return remove_files(Path(out_dir))


def generate_new_kernels(
    archs: str,
    out_dir: str | os.PathLike[str],
    *,
    schemes: Sequence[str] | None = None,
    selector: str = specs.DEFAULT_SELECTOR,
    type_namespace: str = specs.DEFAULT_TYPE_NAMESPACE,
    kernel_namespace: str = specs.DEFAULT_KERNEL_NAMESPACE,
    scheme_headers: bool = True,
    selector_fallback: str = "",
    clean: bool = False,
) -> Report:
    """Writes every kernel file, kernel_selector.h and manifest.json into a directory.

    Args:
      archs: CUDA architectures such as "8.0, sm_89 9.0a+PTX".
      out_dir: the directory; it is made if it is not there. Unchanged files are not touched, and
        files of an earlier run that are not wanted any more are removed.
      schemes: names of the table's quantisation schemes; None: all.
      selector: "switch" (one packed key) or "chain" (if / else if).
      type_namespace: C++ namespace of the scalar types.
      kernel_namespace: C++ namespace of the kernel template.
      scheme_headers: include the headers that this module's kernels have for certain types; other
        kernel trees have kernel.h and marlin_template.h only.
      selector_fallback: C++ statement in one line that the selector executes if there is no kernel
        for what is asked; empty: its variable `kernel` stays as it is.
      clean: remove the generator's files first, so that all are written anew.

    Returns:
      The files, and what changed.

    Raises:
      GeneratorError: an argument is not allowed, or a file that the generator did not write is in
        the way; nothing has been written then.
    """
    tables = load_tables()
    spec = specs.spec_for_archs(
        archs,
        tables,
        schemes=schemes,
        selector=selector,
        type_namespace=type_namespace,
        kernel_namespace=kernel_namespace,
        scheme_headers=scheme_headers,
        selector_fallback=selector_fallback,
    )
    directory = Path(out_dir)
    texts = render(spec, tables)
    files = {directory / name: text for name, text in texts.items()}
    refuse_strangers(files)
    removed = remove_files(directory) if clean else []
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
    tables = load_tables()
    texts = render(specs.read_spec(spec_file, tables), tables)
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


def kernel_row(kernel: Instantiation) -> dict[str, str]:
    """What --list shows of a kernel, by column; several schemes are separated by commas."""
    return {
        "file": kernel.file,
        "schemes": ",".join(kernel.schemes),
        "a_type": kernel.a_type.name,
        "b_type": kernel.b_type.name,
        "c_type": kernel.c_type.name,
        "s_type": kernel.s_type.name,
        **{name: str(value).lower() for name, value in kernel.shape.items()},
    }


def kernel_table(kernels: Sequence[Instantiation]) -> str:
    """A line for each kernel, in aligned columns, below a line of headings."""
    rows = [kernel_row(kernel) for kernel in kernels]
    lines = [tuple(rows[0]), *(tuple(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


def filter_kernels(kernels: Sequence[Instantiation], filters: Sequence[str]) -> list[Instantiation]:
    """The kernels that have every COLUMN=VALUE; of several schemes one suffices.

    Raises:
      GeneratorError: there is no such column, or no kernel is left.
    """
    left = list(kernels)
    for text in filters:
        column, _, value = text.partition("=")
        columns = list(kernel_row(kernels[0]))
        if column not in columns or not value:
            raise GeneratorError(
                f'--filter "{text}" is not allowed; allowed: COLUMN=VALUE with a column of '
                + ", ".join(columns)
            )
        there = dict.fromkeys(
            name for kernel in left for name in kernel_row(kernel)[column].split(",")
        )
        left = [kernel for kernel in left if value in kernel_row(kernel)[column].split(",")]
        if not left:
            raise GeneratorError(
                f'--filter "{text}" leaves no kernel; values of {column}: {", ".join(there)}'
            )
    return left


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "archs", nargs="*", metavar="ARCHS", help="CUDA architectures: 8.0, sm_89, 9.0a, 12.0+PTX"
    )
    parser.add_argument(
        "--out-dir", metavar="DIR", help="where to write; needed unless something is only shown"
    )
    parser.add_argument("--schemes", metavar="NAMES", help="quantisation schemes (default: all)")
    parser.add_argument("--selector", default=specs.DEFAULT_SELECTOR, help="switch or chain")
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
    except (GeneratorError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Does what the options ask for; wrong combinations of them end the program."""
    # `bazel run` starts programs elsewhere, and says here where the user is.
    directory = Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), options.out_dir or "")
    shows = options.list or options.list_schemes
    if options.spec or options.outputs:
        if not (options.spec and options.outputs) or _other_options(options, parser):
            parser.error("--spec and --outputs go together, and with nothing else")
        generate_outputs(options.spec, options.outputs)
    elif (options.json or options.filter) and not options.list:
        parser.error("--json and --filter go with --list")
    elif shows and (options.out_dir or options.clean):
        parser.error("--list and --list-schemes write nothing: leave out --out-dir and --clean")
    elif options.list_schemes:
        print("\n".join(table_schemes(load_tables())))
    elif options.clean and not options.archs and options.out_dir:
        print(f"removed {len(remove_old_kernels(directory))} files from {directory}")
    elif not options.archs:
        parser.error('no architectures: give them as in gen.py "8.0,8.9" --out-dir DIR')
    elif options.list:
        _show_kernels(options)
    elif not options.out_dir:
        parser.error("no --out-dir: say where to write, or use --list to look only")
    else:
        report = generate_new_kernels(
            " ".join(options.archs), directory, clean=options.clean, **_choices(options)
        )
        print(
            f"{len(report.files)} files in {directory}: "
            f"{len(report.written)} written, {len(report.removed)} removed"
        )


def _other_options(options: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Whether anything but --spec and --outputs is given."""
    others = set(vars(options)) - {"spec", "outputs"}
    return any(getattr(options, name) not in (parser.get_default(name), []) for name in others)


def _choices(options: argparse.Namespace) -> dict[str, Any]:
    """The options that choose kernels and their form, as spec_for_archs() takes them."""
    names = options.schemes
    return {
        "schemes": None if names is None else names.replace(",", " ").split(),
        "selector": options.selector,
        "type_namespace": options.type_namespace,
        "kernel_namespace": options.kernel_namespace,
        "scheme_headers": options.scheme_headers,
        "selector_fallback": options.selector_fallback,
    }


def _show_kernels(options: argparse.Namespace) -> None:
    tables = load_tables()
    spec = specs.spec_for_archs(" ".join(options.archs), tables, **_choices(options))
    kernels = filter_kernels(kernels_of(spec, tables), options.filter)
    sys.stdout.write(manifest(spec, kernels) if options.json else kernel_table(kernels))


if __name__ == "__main__":
    # `gen.py ... --list | head` ends quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
