"""Quantisation schemes: the parsed form, and the checks that table and custom schemes go through.

private/quant_scheme.bzl has the same checks, for the schemes of a target: there an error must come
before the generator runs, here --scheme FILE.json comes without Bazel. Both stay, and
tests/testdata/scheme_errors.bzl holds the messages that they agree on.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from marlin_gen.errors import GeneratorError, spelled
from marlin_gen.tables import Tables

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NAME_RULE = "a lower-case letter, then lower-case letters, digits and underscores"

# Field of a scheme as the spec has it: the kind of value it holds.
_FIELDS = {
    "name": "a string",
    "a_type": "a list of strings",
    "b_type": "a string",
    "c_type": "a list of strings",
    "s_type": "a string",
    "tiles": "the name of a tile set or a list of [thread_k, thread_n, threads, thread_m_blocks]",
    "group_blocks": "a list of integers",
}

# The same for a scheme as quant_scheme() takes it; the last two may be left out.
_CUSTOM_FIELDS = {
    "name": "a string",
    "a_type": "a list of strings",
    "b_type": "a string",
    "thread_configs": "a list of [thread_k, thread_n, threads]",
    "thread_m_blocks": "a list of numbers",
    "group_blocks": "a list of integers",
    "c_type": "a list of strings",
    "s_type": "a string",
}
_DEFAULTS: dict[str, Any] = {"c_type": [], "s_type": ""}


@dataclass(frozen=True, slots=True)
class Tile:
    """A block's tile: its extent in K and N, its threads, and its extents in M in 16 rows."""

    thread_k: int
    thread_n: int
    threads: int
    thread_m_blocks: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A checked quantisation scheme. No c_types: the a_type itself; s_type "": the c_type."""

    name: str
    a_types: tuple[str, ...]
    b_type: str
    c_types: tuple[str, ...]
    s_type: str
    tiles: tuple[Tile, ...]
    group_blocks: tuple[int, ...]

    def c_types_for(self, a_type: str) -> tuple[str, ...]:
        """The output types of the kernels with this activation type."""
        return self.c_types or (a_type,)


def table_schemes(tables: Tables) -> dict[str, Scheme]:
    """The schemes of the project's table by name, in its order; those to be named come last."""
    schemes: dict[str, Scheme] = {}
    for row in (*tables.schemes, *tables.further_schemes):
        scheme = parse_scheme(row, tables, taken=schemes)
        schemes[scheme.name] = scheme
    return schemes


def parse_scheme(raw: object, tables: Tables, taken: Collection[str] = ()) -> Scheme:
    """Checks a scheme as the table and the spec spell it.

    Args:
      raw: a dictionary with the fields of QUANT_SCHEMES.
      tables: the project's tables.
      taken: names that the scheme must not have.

    Returns:
      The scheme, its lists in the order of the tables and without repetition.

    Raises:
      GeneratorError: the first field that is not allowed, with the values that are.
    """
    fields = _checked_shape(raw, _FIELDS)
    check = _Checker(fields["name"])
    if not _NAME.fullmatch(fields["name"]):
        check.fail("name", fields["name"], _NAME_RULE)
    if fields["name"] in taken:
        check.fail("name", fields["name"], "a name that no other scheme has")
    check.some_of("a_type", fields["a_type"], tables.types_for("a"))
    check.one_of("b_type", fields["b_type"], tables.types_for("b"))
    check.all_of("c_type", fields["c_type"], tables.types_for("c"))
    check.one_of("s_type", fields["s_type"], ["", *tables.types_for("s")])
    tiles = _checked_tiles(fields["tiles"], tables, check)
    check.some_of("group_blocks", fields["group_blocks"], tables.limits.group_blocks)
    scheme = Scheme(
        name=fields["name"],
        a_types=tuple(fields["a_type"]),
        b_type=fields["b_type"],
        c_types=tuple(fields["c_type"]),
        s_type=fields["s_type"],
        tiles=tiles,
        group_blocks=tuple(fields["group_blocks"]),
    )
    for a_type in scheme.a_types:
        _check_activation(scheme, a_type, tables, check)
    return _normalised(scheme, tables)


def parse_custom_scheme(raw: object, tables: Tables, taken: Collection[str] = ()) -> Scheme:
    """Checks a scheme with the fields that quant_scheme() takes in a BUILD file.

    Args:
      raw: a dictionary with these fields; c_type and s_type may be left out.
      tables: the project's tables.
      taken: names that the scheme must not have.

    Returns:
      The scheme.

    Raises:
      GeneratorError: the first field that is not allowed, with the values that are.
    """
    fields = _checked_shape(raw, _CUSTOM_FIELDS, _DEFAULTS)
    row = {name: fields[name] for name in _FIELDS if name in fields}
    row["tiles"] = [[*config, fields["thread_m_blocks"]] for config in fields["thread_configs"]]
    return parse_scheme(row, tables, taken)


def _normalised(scheme: Scheme, tables: Tables) -> Scheme:
    """The scheme with its lists in the tables' order, so that equal sets are equal schemes."""
    tiles = []
    for config in tables.limits.thread_configs:
        blocks = {
            m
            for tile in scheme.tiles
            for m in tile.thread_m_blocks
            if (tile.thread_k, tile.thread_n, tile.threads) == config
        }
        if blocks:
            m_blocks = tuple(m for m in tables.limits.thread_m_blocks if m in blocks)
            tiles.append(Tile(*config, m_blocks))
    return replace(
        scheme,
        a_types=tuple(name for name in tables.scalar_types if name in scheme.a_types),
        c_types=tuple(name for name in tables.scalar_types if name in scheme.c_types),
        tiles=tuple(tiles),
        group_blocks=tuple(g for g in tables.limits.group_blocks if g in scheme.group_blocks),
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) or '""' for value in values)


@dataclass(frozen=True, slots=True)
class _Checker:
    """Raises errors that name the scheme, the field, its value and the allowed ones."""

    scheme: str

    def fail(
        self, field: str, value: object, allowed: str, given: dict[str, str] | None = None
    ) -> None:
        context = ", ".join(f'{name} = "{text}"' for name, text in (given or {}).items())
        raise GeneratorError(
            f"quant scheme {spelled(self.scheme)}: {field} = {spelled(value)} is not allowed"
            f"{' with ' + context if context else ''}; allowed: {allowed}"
        )

    def one_of(
        self,
        field: str,
        value: object,
        allowed: Collection[object],
        given: dict[str, str] | None = None,
    ) -> None:
        if value not in allowed:
            self.fail(field, value, _listed(allowed), given)

    def all_of(
        self,
        field: str,
        values: Iterable[object],
        allowed: Collection[object],
        given: dict[str, str] | None = None,
    ) -> None:
        for value in values:
            self.one_of(field, value, allowed, given)

    def some_of(
        self,
        field: str,
        values: Collection[object],
        allowed: Collection[object],
        given: dict[str, str] | None = None,
    ) -> None:
        if not values:
            self.fail(field, [], f"one or more of {_listed(allowed)}", given)
        self.all_of(field, values, allowed, given)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_number(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)


def _is_config(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(map(_is_int, value))


def _is_tile(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 4
        and _is_config(value[:3])
        and isinstance(value[3], list)
        and all(map(_is_number, value[3]))
    )


def _has_kind(field: str, value: object) -> bool:
    """Whether a field holds the kind of value that _FIELDS or _CUSTOM_FIELDS states."""
    match field:
        case "a_type" | "c_type":
            return _is_list_of_strings(value)
        case "group_blocks":
            return isinstance(value, list) and all(_is_int(item) for item in value)
        case "tiles" if isinstance(value, list):
            return all(_is_tile(item) for item in value)
        case "thread_configs" if isinstance(value, list):
            return all(_is_config(item) for item in value)
        case "thread_m_blocks":
            return isinstance(value, list) and all(_is_number(item) for item in value)
        case _:
            return isinstance(value, str)


def _checked_shape(
    raw: object, kinds: Mapping[str, str], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The scheme's fields, once it has all without a default, no other, and each of its kind."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
        raise GeneratorError(
            f"quant scheme {spelled(raw)} is not allowed; allowed: an object with a name"
        )
    check = _Checker(raw["name"])
    fields = {**(defaults or {}), **raw}
    if set(fields) != set(kinds):
        optional = f"; optional: {_listed(defaults)}" if defaults else ""
        check.fail("fields", _listed(sorted(map(str, raw))), _listed(kinds) + optional)
    for field, kind in kinds.items():
        if not _has_kind(field, fields[field]):
            check.fail(field, fields[field], kind)
    return fields


def _checked_tiles(raw: str | list[Any], tables: Tables, check: _Checker) -> tuple[Tile, ...]:
    if isinstance(raw, str):
        check.one_of("tiles", raw, tables.tile_sets)
        raw = tables.tile_sets[raw]
    configs = [tuple(tile[:3]) for tile in raw]
    check.some_of("thread_configs", configs, tables.limits.thread_configs)
    for tile in raw:
        check.some_of("thread_m_blocks", tile[3], tables.limits.thread_m_blocks)
    return tuple(Tile(k, n, threads, tuple(m_blocks)) for k, n, threads, m_blocks in raw)


def _check_activation(scheme: Scheme, a_type: str, tables: Tables, check: _Checker) -> None:
    """Checks what depends on the activation type."""
    given = {"a_type": a_type}
    if tables.scalar_types[a_type].bits != 16:
        check.some_of("c_type", scheme.c_types, tables.types_for("c"), given)
        for tile in scheme.tiles:
            m_blocks = tables.limits.thread_m_blocks_a8
            check.all_of("thread_m_blocks", tile.thread_m_blocks, m_blocks, given)
    rows = [row for row in tables.combinations if row.b_type == scheme.b_type]
    allowed = sorted({allowed for row in rows for allowed in row.a_types})
    check.one_of("a_type", a_type, allowed, {"b_type": scheme.b_type})
    for c_type in scheme.c_types_for(a_type):
        _check_scales(scheme, a_type, c_type, tables, check)


def _check_scales(
    scheme: Scheme, a_type: str, c_type: str, tables: Tables, check: _Checker
) -> None:
    """Checks the scale type and the group sizes that go with the other three types."""
    s_type = scheme.s_type or c_type
    # An output of the other 16-bit type goes with scales of its own type, and not with act-order.
    mixed = tables.scalar_types[a_type].bits == 16 and c_type != a_type
    rows = {
        row.s_type or c_type: row
        for row in tables.combinations
        if row.b_type == scheme.b_type and a_type in row.a_types and not (mixed and row.s_type)
    }
    given = {"b_type": scheme.b_type, "a_type": a_type}
    if not rows:
        check.one_of("c_type", c_type, [a_type], given)
    if s_type not in rows:
        allowed = sorted({"", *rows} if c_type in rows else rows)
        check.one_of("s_type", scheme.s_type, allowed, {**given, "c_type": c_type})
    allowed_groups = [group for group in rows[s_type].group_blocks if group or not mixed]
    check.all_of("group_blocks", scheme.group_blocks, allowed_groups, {**given, "s_type": s_type})
