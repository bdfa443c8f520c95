"""What --list shows: a table of kernels, and the filters on its columns."""

from collections.abc import Sequence

from marlin_gen.errors import GeneratorError, spelled
from marlin_gen.kernels import Instantiation


def _row(kernel: Instantiation) -> dict[str, str]:
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


def _columns(kernels: Sequence[Instantiation]) -> list[str]:
    """The columns of any of the kernels: those of different templates have some of them each."""
    return list(dict.fromkeys(column for kernel in kernels for column in _row(kernel)))


def kernel_table(kernels: Sequence[Instantiation]) -> str:
    """A line for each kernel, in aligned columns, below a line of headings."""
    rows = [_row(kernel) for kernel in kernels]
    columns = _columns(kernels)
    lines = [tuple(columns), *(tuple(row.get(column, "-") for column in columns) for row in rows)]
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
        columns = _columns(kernels)
        if column not in columns or not value:
            raise GeneratorError(
                f"--filter {spelled(text)} is not allowed; allowed: COLUMN=VALUE with a column of "
                + ", ".join(columns)
            )
        values = [_row(kernel).get(column, "-").split(",") for kernel in left]
        there = dict.fromkeys(name for names in values for name in names)
        left = [kernel for kernel, names in zip(left, values, strict=True) if value in names]
        if not left:
            raise GeneratorError(
                f"--filter {spelled(text)} leaves no kernel; values of {column}: {', '.join(there)}"
            )
    return left
