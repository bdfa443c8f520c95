"""Quantisation schemes: the checks accept what has kernels, and name what has not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marlin_gen.errors import GeneratorError
from marlin_gen.kernels import enumerate_kernels
from marlin_gen.schemes import parse_custom_scheme, parse_scheme, table_schemes
from marlin_gen.spec import spec_for_archs
from marlin_gen.tables import load_tables

TABLES = load_tables()
VALID: dict[str, Any] = {
    "name": "my_int4",
    "a_type": ["kFloat16"],
    "b_type": "kU4",
    "c_type": ["kFloat16"],
    "s_type": "",
    "tiles": [[128, 128, 256, [1, 2]]],
    "group_blocks": [4],
}


@pytest.fixture
def shared_cases(testdata):
    """Schemes as the spec spells them, and what is said of each, empty if nothing."""
    shared = testdata("scheme_errors.bzl")
    schemes = [({**shared["valid"], **fields}, said) for fields, said in shared["cases"]]
    assert {bool(said) for _, said in schemes} == {True, False}
    return [(raw, said and f'quant scheme "{raw["name"]}": {said}') for raw, said in schemes]


def message_of(parse, raw, tables):
    """The error of a scheme beside those of the table, empty if there is none."""
    try:
        parse(raw, tables, [row["name"] for row in tables.schemes])
    except GeneratorError as error:
        return str(error)
    return ""


def test_shared_cases(shared_cases, tables):
    for raw, said in shared_cases:
        assert message_of(parse_scheme, raw, tables) == said


def test_every_scheme_of_the_table_passes_the_checks(tables):
    rows = [*tables.schemes, *tables.further_schemes]
    assert list(table_schemes(tables)) == [row["name"] for row in rows]


def test_further_schemes_are_built_where_they_are_named(tables):
    documented = [row["name"] for row in tables.schemes]
    assert [s.name for s in spec_for_archs("8.9", tables).schemes] == documented
    named = [row["name"] for row in tables.further_schemes]
    assert [s.name for s in spec_for_archs("8.9", tables, schemes=named).schemes] == named
    assert len({*documented, *named}) == len(documented) + len(named)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("a_type", "kFloat16", 'a_type = "kFloat16" is not allowed; allowed: a list of strings'),
        ("b_type", ["kU4"], "b_type = ['kU4'] is not allowed; allowed: a string"),
        ("c_type", [1], "c_type = [1] is not allowed; allowed: a list of strings"),
        ("s_type", None, "s_type = None is not allowed; allowed: a string"),
        ("tiles", [[128, 128, 256]], "tiles = [[128, 128, 256]] is not allowed; allowed: the name"),
        ("tiles", [[128, 128, "256", [1]]], "is not allowed; allowed: the name of a tile set or"),
        ("group_blocks", [True], "group_blocks = [True] is not allowed; allowed: a list of int"),
        ("group_blocks", 4, "group_blocks = 4 is not allowed; allowed: a list of integers"),
    ],
)
def test_a_field_of_another_kind_is_refused(field, value, message, tables):
    with pytest.raises(GeneratorError) as error:
        parse_scheme({**VALID, field: value}, tables)
    assert str(error.value).startswith('quant scheme "my_int4": ')
    assert message in str(error.value)


CUSTOM: dict[str, Any] = {
    "name": "my_int4",
    "a_type": ["kFloat16"],
    "b_type": "kU4",
    "thread_configs": [[64, 128, 128], [128, 128, 256]],
    "thread_m_blocks": [2, 1.0],
    "group_blocks": [4, -1, 4],
}


def test_a_custom_scheme_is_that_of_quant_scheme(tables):
    expected = {
        **VALID,
        "c_type": [],
        "tiles": [[128, 128, 256, [1, 2]], [64, 128, 128, [1, 2]]],
        "group_blocks": [-1, 4],
    }
    assert parse_custom_scheme(CUSTOM, tables) == parse_scheme(expected, tables)
    given = {**CUSTOM, "c_type": ["kFloat16"], "s_type": "kFloat16"}
    expected |= {"c_type": ["kFloat16"], "s_type": "kFloat16"}
    assert parse_custom_scheme(given, tables) == parse_scheme(expected, tables)


def test_custom_schemes_have_the_checks_of_quant_scheme(shared_cases, tables):
    cases = 0
    for raw, said in shared_cases:
        fields = dict(raw)
        tiles = fields.pop("tiles")
        if isinstance(tiles, str) or len({str(tile[3]) for tile in tiles}) > 1:
            continue
        fields["thread_configs"] = [tile[:3] for tile in tiles]
        fields["thread_m_blocks"] = tiles[0][3] if tiles else [1]
        assert message_of(parse_custom_scheme, fields, tables) == said
        cases += 1
    assert cases > 20


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("thread_configs", [128], "allowed: a list of [thread_k, thread_n, threads]"),
        ("thread_configs", [[128, 128]], "allowed: a list of [thread_k, thread_n, threads]"),
        ("thread_configs", 128, "allowed: a list of [thread_k, thread_n, threads]"),
        ("thread_configs", [], "thread_configs = [] is not allowed; allowed: one or more of (128"),
        ("thread_m_blocks", 1, "thread_m_blocks = 1 is not allowed; allowed: a list of numbers"),
        ("thread_m_blocks", [True], "allowed: a list of numbers"),
        ("thread_m_blocks", [], "thread_m_blocks = [] is not allowed; allowed: one or more of"),
        ("c_type", None, "c_type = None is not allowed; allowed: a list of strings"),
        ("tiles", "a16", "allowed: name, a_type, b_type, thread_configs, thread_m_blocks, group_b"),
        ("a_type", [["[" * 90]] * 90, "is not allowed; allowed: a list of strings"),
        ("b_type", "kU4\nkU8", '"kU4\\nkU8" is not allowed; allowed: kFE2M1f'),
    ],
)
def test_wrong_fields_of_a_custom_scheme_are_refused_in_a_line(field, value, message, tables):
    with pytest.raises(GeneratorError) as error:
        parse_custom_scheme({**CUSTOM, field: value}, tables)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2500


@pytest.mark.parametrize("raw", [{**VALID, "extra": 1}, {"name": "x"}, {}, [], "gptq_int4", None])
def test_missing_and_unknown_fields_are_refused(raw, tables):
    with pytest.raises(GeneratorError, match=r"is not allowed.*; allowed: "):
        parse_scheme(raw, tables)


def subsets(values):
    return st.lists(st.sampled_from(list(values)), unique=True, max_size=3)


ALL_TYPES = ["", "kU5", *TABLES.scalar_types]
TILES = st.tuples(
    st.sampled_from([*TABLES.limits.thread_configs, (1, 2, 3)]),
    subsets([*TABLES.limits.thread_m_blocks, 5]),
)
SCHEMES = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["mine", "Mine"]),
        "a_type": subsets(ALL_TYPES),
        "b_type": st.sampled_from(ALL_TYPES),
        "c_type": subsets(ALL_TYPES),
        "s_type": st.sampled_from(ALL_TYPES),
        "tiles": st.lists(TILES.map(lambda t: [*t[0], t[1]]), max_size=2) | st.just("a8"),
        "group_blocks": subsets([*TABLES.limits.group_blocks, 3]),
    }
)
# Mostly allowed values, so that combinations are reached.
PLAUSIBLE = st.fixed_dictionaries(
    {
        "name": st.just("mine"),
        "a_type": subsets(TABLES.types_for("a")),
        "b_type": st.sampled_from(TABLES.types_for("b")),
        "c_type": subsets(TABLES.types_for("c")),
        "s_type": st.sampled_from(["", *TABLES.types_for("s")]),
        "tiles": st.sampled_from(["a8", "a16"]),
        "group_blocks": subsets(TABLES.limits.group_blocks),
    }
)


@given(SCHEMES | PLAUSIBLE)
def test_a_scheme_is_refused_or_all_its_kernels_are_allowed(raw):
    try:
        scheme = parse_scheme(raw, TABLES)
    except GeneratorError as error:
        assert str(error).startswith(f'quant scheme "{raw["name"]}": ')
        assert "; allowed: " in str(error)
        return
    kernels = enumerate_kernels(TABLES.families, [scheme], TABLES)
    assert kernels
    for kernel in kernels:
        a_type, b_type, c_type, s_type = kernel.types
        if a_type.bits == 16 and a_type != c_type:
            assert s_type == c_type
            assert kernel.group_blocks != 0
            assert kernel.family.name != "sm90"
        assert not (kernel.shape.get("m_block_size_8") and a_type.bits == 8)
        assert any(
            row.b_type == b_type.name
            and a_type.name in row.a_types
            and (row.s_type or c_type.name) == s_type.name
            and kernel.group_blocks in row.group_blocks
            for row in TABLES.combinations
        )


def test_every_allowed_combination_has_a_scheme(tables):
    for row in tables.combinations:
        for a_type in row.a_types:
            c_type = a_type if tables.scalar_types[a_type].bits == 16 else "kBFloat16"
            raw = {
                **VALID,
                "a_type": [a_type],
                "b_type": row.b_type,
                "c_type": [c_type],
                "s_type": row.s_type,
                "group_blocks": list(row.group_blocks),
            }
            assert parse_scheme(raw, tables).group_blocks == row.group_blocks


def test_kernels_that_two_schemes_share_appear_once(tables):
    table = table_schemes(tables)["awq_int4"]
    mine = parse_scheme(VALID, tables)
    kernels = enumerate_kernels(tables.families, [table, mine], tables)
    shared = [kernel for kernel in kernels if kernel.schemes == ("awq_int4", "my_int4")]
    own = [kernel for kernel in kernels if kernel.schemes == ("my_int4",)]
    # (128, 128, 256) has m 1 in the table's scheme, m 2 in this one only; families sm75 and sm80.
    # Tiles of sm90 go by types and group sizes alone, which the table's scheme has too.
    m_blocks = "thread_m_blocks"
    assert [k.shape[m_blocks] for k in shared if k.family.name != "sm90"] == [1, 1]
    assert [k.shape[m_blocks] for k in own] == [2, 2]
    assert [k.shape["block_rows"] for k in shared if k.family.name == "sm90"] == [32, 144]
    assert len({(k.types, *k.shape.values()) for k in kernels}) == len(kernels)
