"""What the generator does, as functions: write kernel files into a folder, or remove them."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marlin_gen import spec as specs
from marlin_gen.errors import GeneratorError
from marlin_gen.output import refuse_strangers, remove_files, write_files
from marlin_gen.render import render
from marlin_gen.tables import load_tables

# What generate_new_kernels() generates for if neither its caller nor the command line says it.
DEFAULT_ARCHS = "8.0,8.9"


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
