"""The tables of private/families.bzl, private/quant_schemes.bzl and private/cxx_keywords.bzl.

These files hold literals only, so that Starlark loads and Python parses the same text. A build
action gets the tables in its spec.
"""

import ast
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_PRIVATE = Path(__file__).parents[3] / "private"


@dataclass(frozen=True, slots=True)
class ScalarType:
    """A scalar type: the name of its C++ constant, its width, and the operands that may have it."""

    name: str
    bits: int
    roles: tuple[str, ...]
    code: int
    """Position in the table, from 1; the type's digit in the selector's keys."""

    @property
    def file_part(self) -> str:
        """The type's spelling in file names: kFloat16 is float16."""
        return self.name.removeprefix("k").lower()


@dataclass(frozen=True, slots=True)
class Arch:
    """A compute capability ("9.0") and the suffixes that it knows besides none ("a", "f")."""

    capability: str
    suffixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Kernels that share file prefix, template, pipeline depth and the capabilities they run on."""

    name: str
    capabilities: tuple[str, ...]
    suffix: str
    template: str
    extra: bool
    """Whether it is beyond the documented families, so that somebody has to ask for it."""

    a_types: tuple[str, ...]
    c_types: tuple[str, ...]
    stages: int
    tile_table: str
    """The table that its tiles are in; empty: those of the schemes."""

    selector: str
    """Base name of the header that finds its kernels."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Values that a scheme's fields may take."""

    thread_configs: tuple[tuple[int, int, int], ...]
    thread_m_blocks: tuple[float, ...]
    thread_m_blocks_a8: tuple[float, ...]
    group_blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Combination:
    """Types that go together, and the group_blocks they may have; s_type "" is the c_type."""

    b_type: str
    a_types: tuple[str, ...]
    s_type: str
    group_blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sm90Tiles:
    """Tiles of the family sm90 for some types and group sizes; s_type "" is the c_type.

    A tile is (block_rows, thread_n, blocks_per_sm).
    """

    a_types: tuple[str, ...]
    b_types: tuple[str, ...]
    s_type: str
    group_blocks: tuple[int, ...]
    tiles: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class SchemeHeader:
    """A header, `name`.cuh, that kernels with these activations and weights include."""

    name: str
    a_types: tuple[str, ...]
    b_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables; `schemes` and `tile_sets` are as written, for marlin_gen.schemes to parse."""

    archs: tuple[Arch, ...]
    families: tuple[Family, ...]
    scalar_types: dict[str, ScalarType]
    limits: Limits
    combinations: tuple[Combination, ...]
    schemes: tuple[dict[str, Any], ...]
    further_schemes: tuple[dict[str, Any], ...]
    """Schemes that are built only where somebody names them."""

    tile_sets: dict[str, list[Any]]
    tile_tables: dict[str, tuple[Sm90Tiles, ...]]
    """Tiles of families that do not have those of the schemes, by the name of their table."""
    scheme_headers: tuple[SchemeHeader, ...]
    kernel_costs: dict[int, dict[float, int]]
    """What a kernel costs to compile, by bits of its activations and thread_m_blocks (0.5: 8)."""
    sm90_kernel_cost: int
    """The same for a kernel of the family sm90."""
    part_cost: int
    """What a file may cost before it is split."""
    cxx_keywords: frozenset[str]
    """Words that no C++ namespace can be called."""

    @property
    def extra_families(self) -> list[str]:
        """Names of the families that are left out where nobody asks for them."""
        return [family.name for family in self.families if family.extra]

    def types_for(self, role: str) -> list[str]:
        """Names of the types that the operand `role` (a, b, c or s) may have, sorted."""
        return sorted(name for name, scalar in self.scalar_types.items() if role in scalar.roles)


def _literals(path: Path) -> dict[str, Any]:
    """The top-level assignments of a file of literals, by name."""
    module = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return {
        target.id: ast.literal_eval(statement.value)
        for statement in module.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _frozen(value: Any) -> Any:
    """A value with tuples in the place of its lists."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value


def _thread_configs(tile_sets: dict[str, Any]) -> tuple[tuple[int, int, int], ...]:
    """(thread_k, thread_n, threads) of the tiles of all sets, each once, in the table's order."""
    return tuple(dict.fromkeys(tile[:3] for tiles in tile_sets.values() for tile in tiles))


def raw_tables() -> dict[str, Any]:
    """The tables by their names in the .bzl files, with lists and keys as JSON has them."""
    literals: dict[str, Any] = {}
    for name in ("families.bzl", "quant_schemes.bzl", "cxx_keywords.bzl"):
        literals |= _literals(_PRIVATE / name)
    raw: dict[str, Any] = json.loads(json.dumps(literals))
    return raw


def parse_tables(raw: dict[str, Any]) -> Tables:
    """The tables of raw_tables(), or those that the Bazel rule puts into a spec."""
    frozen = _frozen(raw)
    return Tables(
        archs=tuple(Arch(**row) for row in frozen["ARCHS"]),
        families=tuple(Family(**row) for row in frozen["FAMILIES"]),
        scalar_types={
            row["name"]: ScalarType(**row, code=code)
            for code, row in enumerate(frozen["SCALAR_TYPES"], start=1)
        },
        limits=Limits(
            thread_configs=_thread_configs(frozen["TILE_SETS"]), **frozen["SCHEME_LIMITS"]
        ),
        combinations=tuple(Combination(**row) for row in frozen["SCHEME_COMBINATIONS"]),
        schemes=tuple(raw["QUANT_SCHEMES"]),
        further_schemes=tuple(raw["FURTHER_QUANT_SCHEMES"]),
        tile_sets=raw["TILE_SETS"],
        tile_tables={
            family["tile_table"]: tuple(Sm90Tiles(**row) for row in frozen[family["tile_table"]])
            for family in frozen["FAMILIES"]
            if family["tile_table"]
        },
        scheme_headers=tuple(SchemeHeader(**row) for row in frozen["SCHEME_HEADERS"]),
        kernel_costs={int(bits): dict(costs) for bits, costs in frozen["KERNEL_COSTS"].items()},
        sm90_kernel_cost=frozen["SM90_KERNEL_COST"],
        part_cost=frozen["PART_COST"],
        cxx_keywords=frozenset(frozen["CXX_KEYWORDS"]),
    )


@cache
def load_tables() -> Tables:
    """Reads the tables of the .bzl files, once per process."""
    return parse_tables(raw_tables())
