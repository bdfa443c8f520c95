"""What kernels need of a multiprocessor: cuobjdump's figures for the manifest's kernels."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cuobjdump
from errors import InputError
from kernels import Kernel, object_stem

_ARCH = re.compile(r"^arch = (\S+)$")
_FUNCTION = re.compile(r"^ Function (\S+):$")
_USAGE = re.compile(r"(REG|STACK|SHARED|LOCAL):(\d+)")
# Marlin<12 integers> and MarlinSm90<9 integers>, as the Itanium C++ ABI spells them: each is L, its
# type, n if negative, E.
_MARLIN = re.compile(
    r"(?:6MarlinI(?=(?:L[a-z]n?\d+E){12}E)|10MarlinSm90I)((?:L[a-z]n?\d+E){9,12})E"
)
_ARGUMENT = re.compile(r"L[a-z](n?)(\d+)E")
# What this repository's template takes: KernelParams of the kernel's own namespace.
_OWN_PARAMETERS = re.compile(r"EvNS[0-9A-Z]*_12KernelParamsE$")


@dataclass(frozen=True)
class Usage:
    """Registers of a thread; bytes of a thread's stack and of what it spills; bytes of a block's
    static shared memory."""

    registers: int
    stack: int
    static_shared: int
    local: int

    @property
    def spills(self) -> bool:
        """Whether the kernel keeps anything in local memory."""
        return self.stack > 0 or self.local > 0


@dataclass(frozen=True)
class KernelUsage:
    """A kernel as compiled for an architecture.

    `foreign` tells that it is of another template than this repository's; `dynamic_shared` is None
    where it is not known, as for those.
    """

    kernel: Kernel
    arch: str
    usage: Usage
    dynamic_shared: int | None
    foreign: bool

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block, as far as they are known."""
        return self.usage.static_shared + (self.dynamic_shared or 0)


def objects_in(folder: Path) -> list[Path]:
    """Returns the object files below a folder, sorted.

    Raises:
      InputError: there is none.
    """
    objects = sorted(folder.rglob("*.o")) if folder.is_dir() else []
    if not objects:
        raise InputError(f"--objects: {folder} is not a folder with object files (*.o)")
    return objects


def objects_of(kernels: Sequence[Kernel], objects: Sequence[Path]) -> list[Path]:
    """Returns the objects of the manifest's files, in the order given.

    Raises:
      InputError: those of a file lie in two folders, and so are of two targets or builds.
    """
    files = {kernel.file for kernel in kernels}
    found = [path for path in objects if object_stem(path.name) in files]
    folders: dict[str, Path] = {}
    for path in found:
        other = folders.setdefault(object_stem(path.name), path.parent)
        if other != path.parent:
            raise InputError(
                f"--objects: {path.name} lies in {other} and in {path.parent}; give a folder with "
                "the objects of one target"
            )
    return found


def parse_usage(text: str) -> dict[tuple[str, str], Usage]:
    """Returns what `cuobjdump -res-usage` prints, by architecture and mangled function name.

    Raises:
      InputError: a function has no figures.
    """
    found = {}
    arch = function = ""
    for line in text.splitlines():
        if match := _ARCH.match(line):
            arch = match[1]
        elif match := _FUNCTION.match(line):
            function = match[1]
        elif function:
            figures = dict(_USAGE.findall(line))
            try:
                found[arch, function] = Usage(
                    *(int(figures[name]) for name in ("REG", "STACK", "SHARED", "LOCAL"))
                )
            except KeyError as error:
                raise InputError(f"cuobjdump says no {error} of {function}: {line!r}") from error
            function = ""
    return found


def match_kernels(
    usage: Mapping[str, Mapping[tuple[str, str], Usage]],
    kernels: Sequence[Kernel],
    dynamic_shared: Mapping[Kernel, int],
    type_ids: Mapping[str, int],
) -> list[KernelUsage]:
    """Returns the kernels that the objects hold, in the manifest's order.

    A file's kernels differ in tile, group and type of the scales. That type's id is looked at only
    where the rest is alike, because kernels of other origin may have other ids.

    Args:
      usage: what parse_usage() returns, by file.
      kernels: those of the manifest.
      dynamic_shared: bytes of a block's dynamic shared memory with this repository's template.
      type_ids: what stands for a scalar type in a symbol.
    """
    alike = Counter((kernel.file, _tile_key(kernel)) for kernel in kernels)
    functions: dict[tuple[str, tuple[int, ...]], list[tuple[int, str, Usage, bool]]] = {}
    for file, entries in usage.items():
        for (arch, function), figures in entries.items():
            if arguments := _template_arguments(function):
                key = file, arguments[4 : 11 if len(arguments) == 12 else 9]
                foreign = not _OWN_PARAMETERS.search(function)
                functions.setdefault(key, []).append((arguments[3], arch, figures, foreign))
    found = []
    for kernel in kernels:
        key = kernel.file, _tile_key(kernel)
        for s_id, arch, figures, foreign in functions.get(key, []):
            if alike[key] == 1 or s_id == type_ids.get(kernel.types[3]):
                dynamic = None if foreign else dynamic_shared.get(kernel)
                found.append(KernelUsage(kernel, arch, figures, dynamic, foreign))
    return found


def _tile_key(kernel: Kernel) -> tuple[int, ...]:
    """The template's arguments between the types and, if it has it, is_zp_float."""
    if kernel.blocks_per_sm:
        return (kernel.rows, kernel.n, kernel.blocks_per_sm, kernel.stages, kernel.group_blocks)
    return (
        kernel.threads,
        max(kernel.rows // 16, 1),
        kernel.n // 16,
        kernel.k // 16,
        int(kernel.rows == 8),
        kernel.stages,
        kernel.group_blocks,
    )


def _template_arguments(function: str) -> tuple[int, ...]:
    """Those of a kernel, in the order of its declaration; none of any other function."""
    match = _MARLIN.search(function)
    if not match:
        return ()
    return tuple(
        -int(digits) if sign else int(digits) for sign, digits in _ARGUMENT.findall(match[1])
    )


def read_objects(objects: Sequence[Path], scratch: Path) -> dict[str, dict[tuple[str, str], Usage]]:
    """Returns what parse_usage() finds in each object, by file.

    Args:
      objects: object files.
      scratch: an empty folder for the tool.

    Raises:
      InputError: cuobjdump cannot read one.
    """
    tool = cuobjdump.unpack(scratch)
    return {object_stem(path.name): _read(tool, path) for path in objects}


def _read(tool: Path, path: Path) -> dict[tuple[str, str], Usage]:
    result = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True)
    if "does not contain device code" in result.stdout:
        return {}
    if result.returncode != 0:
        raise InputError(f"cuobjdump cannot read {path}: {result.stderr.strip()}")
    found = parse_usage(result.stdout)
    if not found:
        raise InputError(f"cuobjdump names no function of {path}:\n{result.stdout[:1000]}")
    return found


def dynamic_shared_memory(
    kernels: Sequence[Kernel], bits: Mapping[str, int], program: Path
) -> dict[Kernel, int]:
    """Returns the bytes of dynamic shared memory that a block needs, for kernels of known types.

    Args:
      kernels: those of the manifest.
      bits: of each scalar type.
      program: //tools/report:shared_memory, which has the formula from the kernels' own header.

    Raises:
      InputError: the program fails.
    """
    known = [kernel for kernel in kernels if set(kernel.types) <= set(bits)]
    lines = "".join(f"{' '.join(map(str, _shape(kernel, bits)))}\n" for kernel in known)
    result = subprocess.run([program], input=lines, capture_output=True, text=True)
    numbers = [int(line) for line in result.stdout.split()]
    if result.returncode != 0 or len(numbers) != len(known):
        raise InputError(f"{program.name} failed: {result.stderr.strip()}")
    return dict(zip(known, numbers, strict=True))


def scalar_type_ids(program: Path) -> dict[str, int]:
    """Returns what stands for each scalar type in the symbols of this repository's kernels.

    Args:
      program: //tools/report:type_ids, which has them from the kernels' own header.

    Raises:
      InputError: the program fails.
    """
    result = subprocess.run([program], capture_output=True, text=True)
    if result.returncode != 0:
        raise InputError(f"{program.name} failed: {result.stderr.strip()}")
    return {name: int(number) for name, number in map(str.split, result.stdout.splitlines())}


def _shape(kernel: Kernel, bits: Mapping[str, int]) -> Iterator[int]:
    """The fields of a TileShape, in its order; of a Sm90Tile behind a 0."""
    a_type, b_type, _, s_type = kernel.types
    if kernel.blocks_per_sm:
        yield from (0, kernel.rows, kernel.n, kernel.blocks_per_sm)
    else:
        yield from (kernel.threads, kernel.rows, kernel.n, kernel.k, kernel.stages)
    yield from (bits[a_type], bits[b_type], bits[s_type], kernel.group_blocks)
    yield int(b_type == "kU4")
