"""Kernel instantiations: what one is, and which there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from marlin_gen.schemes import Scheme
from marlin_gen.tables import Family, ScalarType, Tables

# Rows, columns and depth of the tensor cores' fragments, which block extents count in.
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Instantiation:
    """One instantiation of a family's kernel template.

    The template's arguments are the four types, then what `arguments` has, by name, in its order.
    `cost` is what the kernel costs to compile, as the tables KERNEL_COSTS and SM90_KERNEL_COST say.
    """

    family: Family
    schemes: tuple[str, ...]
    a_type: ScalarType
    b_type: ScalarType
    c_type: ScalarType
    s_type: ScalarType
    arguments: tuple[tuple[str, int | bool], ...]
    cost: int
    file: str = ""
    """Base name of the file that instantiates the kernel."""

    @property
    def file_stem(self) -> str:
        """Name of the file that instantiates the kernel, or of the first of its parts."""
        types = (self.a_type, self.b_type, self.c_type)
        return f"{self.family.name}_kernel_{'_'.join(t.file_part for t in types)}"

    @property
    def types(self) -> tuple[ScalarType, ScalarType, ScalarType, ScalarType]:
        """Types of activations, weights, output and scales."""
        return (self.a_type, self.b_type, self.c_type, self.s_type)

    @property
    def shape(self) -> dict[str, int | bool]:
        """The template's arguments behind the types, by name, in its order."""
        return dict(self.arguments)

    @property
    def group_blocks(self) -> int:
        """16-row k blocks that share one scale; -1: one scale per column; 0: act-order."""
        return self.shape["group_blocks"]

    def template_id(self, type_namespace: str) -> str:
        """The C++ template-id, unqualified; its types are in `type_namespace`."""
        types = [f"{type_namespace}::{t.name}.id()" for t in self.types]
        arguments = types + [str(value).lower() for value in self.shape.values()]
        return f"{self.family.template}<{', '.join(arguments)}>"


def enumerate_kernels(
    families: Sequence[Family], schemes: Sequence[Scheme], tables: Tables
) -> list[Instantiation]:
    """Every instantiation of the schemes in the families, each once, file by file."""
    owners: dict[Instantiation, list[str]] = {}
    for family, scheme in product(families, schemes):
        for kernel in dict.fromkeys(_kernels_of(family, scheme, tables)):
            owners.setdefault(kernel, []).append(scheme.name)
    stems: dict[str, list[Instantiation]] = {}
    for kernel, names in owners.items():
        stems.setdefault(kernel.file_stem, []).append(replace(kernel, schemes=tuple(names)))
    return [kernel for kernels in stems.values() for kernel in _in_parts(kernels, tables.part_cost)]


def _in_parts(kernels: Sequence[Instantiation], part_cost: int) -> Iterator[Instantiation]:
    """The kernels of one file, part by part; private/generate.bzl divides them alike.

    Kernels with the same kind of scales stay together. A part ends before those that would make it
    cost more than allowed; the first has the file's plain name, the others count from 2.
    """
    scales: dict[tuple[ScalarType, int], list[Instantiation]] = {}
    for kernel in kernels:
        scales.setdefault((kernel.s_type, kernel.group_blocks), []).append(kernel)
    part, part_sum = 1, 0
    for members in scales.values():
        cost = sum(kernel.cost for kernel in members)
        if part_sum and part_sum + cost > part_cost:
            part, part_sum = part + 1, 0
        part_sum += cost
        for kernel in members:
            suffix = f"_{part}" if part > 1 else ""
            yield replace(kernel, file=f"{kernel.file_stem}{suffix}.cu")


def _kernels_of(family: Family, scheme: Scheme, tables: Tables) -> Iterator[Instantiation]:
    """The instantiations of one scheme in one family, not yet with the names of their schemes."""
    types = tables.scalar_types
    for a_type, c_type in _activations_and_outputs(family, scheme):
        common = Instantiation(
            family=family,
            schemes=(),
            a_type=types[a_type],
            b_type=types[scheme.b_type],
            c_type=types[c_type],
            s_type=types[scheme.s_type or c_type],
            arguments=(),
            cost=0,
        )
        for group_blocks in scheme.group_blocks:
            if family.tile_table:
                yield from _sm90_kernels(common, group_blocks, tables)
            else:
                yield from _scheme_kernels(common, group_blocks, scheme, tables)


def _scheme_kernels(
    common: Instantiation, group_blocks: int, scheme: Scheme, tables: Tables
) -> Iterator[Instantiation]:
    """The kernels of the template Marlin: a kernel for each of the scheme's tiles."""
    m_blocks = sorted({m for tile in scheme.tiles for m in tile.thread_m_blocks})
    for m, tile in product(m_blocks, scheme.tiles):
        if m not in tile.thread_m_blocks:
            continue
        arguments: dict[str, int | bool] = {
            "threads": tile.threads,
            "thread_m_blocks": max(1, int(m)),
            "thread_n_blocks": tile.thread_n // _BLOCK,
            "thread_k_blocks": tile.thread_k // _BLOCK,
            "m_block_size_8": m < 1,
            "stages": common.family.stages,
            "group_blocks": group_blocks,
            "is_zp_float": False,
        }
        cost = tables.kernel_costs[common.a_type.bits][m]
        yield replace(common, arguments=tuple(arguments.items()), cost=cost)


def _sm90_kernels(
    common: Instantiation, group_blocks: int, tables: Tables
) -> Iterator[Instantiation]:
    """The kernels of the template MarlinSm90: those of the family's table.

    An output of another 16-bit type than the activations' has none.
    """
    if common.a_type.bits == 16 and common.c_type != common.a_type:
        return
    for row in tables.tile_tables[common.family.tile_table]:
        if (
            common.a_type.name not in row.a_types
            or common.b_type.name not in row.b_types
            or common.s_type.name != (row.s_type or common.c_type.name)
            or group_blocks not in row.group_blocks
        ):
            continue
        for block_rows, thread_n, blocks_per_sm in row.tiles:
            arguments: dict[str, int | bool] = {
                "block_rows": block_rows,
                "thread_n": thread_n,
                "blocks_per_sm": blocks_per_sm,
                "stages": common.family.stages,
                "group_blocks": group_blocks,
            }
            cost = tables.sm90_kernel_cost
            yield replace(common, arguments=tuple(arguments.items()), cost=cost)


def _activations_and_outputs(family: Family, scheme: Scheme) -> Iterator[tuple[str, str]]:
    """The scheme's pairs of activation and output type that the family has."""
    for a_type in scheme.a_types:
        for c_type in scheme.c_types_for(a_type):
            if a_type in family.a_types and c_type in family.c_types:
                yield a_type, c_type
