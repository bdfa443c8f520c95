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
    """One instantiation of the kernel template.

    The fields from a_type to is_zp_float are the template's arguments, in its order. `cost` is what
    it costs to compile, as the table KERNEL_COSTS says.
    """

    family: Family
    schemes: tuple[str, ...]
    a_type: ScalarType
    b_type: ScalarType
    c_type: ScalarType
    s_type: ScalarType
    threads: int
    thread_m_blocks: int
    thread_n_blocks: int
    thread_k_blocks: int
    m_block_size_8: bool
    stages: int
    group_blocks: int
    is_zp_float: bool
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
        return {
            "threads": self.threads,
            "thread_m_blocks": self.thread_m_blocks,
            "thread_n_blocks": self.thread_n_blocks,
            "thread_k_blocks": self.thread_k_blocks,
            "m_block_size_8": self.m_block_size_8,
            "stages": self.stages,
            "group_blocks": self.group_blocks,
            "is_zp_float": self.is_zp_float,
        }

    def template_id(self, type_namespace: str) -> str:
        """The C++ template-id, unqualified; its types are in `type_namespace`."""
        types = [f"{type_namespace}::{t.name}.id()" for t in self.types]
        return f"Marlin<{', '.join(types + [str(v).lower() for v in self.shape.values()])}>"


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
    m_blocks = sorted({m for tile in scheme.tiles for m in tile.thread_m_blocks})
    for a_type, c_type in _activations_and_outputs(family, scheme):
        for group_blocks, m, tile in product(scheme.group_blocks, m_blocks, scheme.tiles):
            if m not in tile.thread_m_blocks:
                continue
            yield Instantiation(
                family=family,
                schemes=(),
                a_type=types[a_type],
                b_type=types[scheme.b_type],
                c_type=types[c_type],
                s_type=types[scheme.s_type or c_type],
                threads=tile.threads,
                thread_m_blocks=max(1, int(m)),
                thread_n_blocks=tile.thread_n // _BLOCK,
                thread_k_blocks=tile.thread_k // _BLOCK,
                m_block_size_8=m < 1,
                stages=family.stages,
                group_blocks=group_blocks,
                is_zp_float=False,
                cost=tables.kernel_costs[types[a_type].bits][m],
            )


def _activations_and_outputs(family: Family, scheme: Scheme) -> Iterator[tuple[str, str]]:
    """The scheme's pairs of activation and output type that the family has."""
    for a_type in scheme.a_types:
        for c_type in scheme.c_types_for(a_type):
            if a_type in family.a_types and c_type in family.c_types:
                yield a_type, c_type
