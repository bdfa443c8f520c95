"""Architecture strings: every spelling means what it says, everything else is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marlin_gen.archs import parse_archs
from marlin_gen.errors import GeneratorError
from marlin_gen.tables import load_tables

CANONICAL = [
    arch.capability + suffix for arch in load_tables().archs for suffix in ("", *arch.suffixes)
]
SPELLED = re.compile(r"(sm_\d+|\d+|\d+\.\d)[af]?(\+PTX)?")


def spellings(canonical):
    number = canonical.replace(".", "")
    return [canonical, number, f"sm_{number}"]


def test_shared_cases(testdata, tables):
    cases = testdata("arch_strings.bzl")
    assert cases
    for case in cases:
        if case["archs"] is None:
            with pytest.raises(GeneratorError):
                parse_archs(case["input"], tables)
        else:
            assert parse_archs(case["input"], tables) == case["archs"], case["input"]


def test_error_says_what_was_given_and_what_is_known(tables):
    with pytest.raises(GeneratorError) as error:
        parse_archs("8.0,banana,9.9", tables)
    message = str(error.value)
    assert message.startswith(
        'architectures "8.0,banana,9.9": unknown: "banana", "9.9"; known: 7.5,'
    )
    assert all(name in message for name in CANONICAL)


def test_error_for_nothing_says_so(tables):
    with pytest.raises(GeneratorError, match=r'architectures " , ": none is named; known: 7\.5, '):
        parse_archs(" , ", tables)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(CANONICAL),
            st.integers(min_value=0, max_value=2),
            st.booleans(),
            st.sampled_from([",", ";", " ", ", ", "\n", " ,;, "]),
        ),
        min_size=1,
    )
)
def test_spelling_order_and_repetition_do_not_matter(words):
    text = "".join(
        spellings(name)[spelling] + ("+PTX" if ptx else "") + separator
        for name, spelling, ptx, separator in words
    )
    with_ptx = {name for name, _, ptx, _ in words if ptx}
    asked = {name for name, *_ in words}
    expected = [n + ("+PTX" if n in with_ptx else "") for n in CANONICAL if n in asked]
    assert parse_archs(text, load_tables()) == expected


@given(st.text(alphabet="0123456789._smafPTX+- ,;", min_size=1, max_size=12))
def test_a_word_is_a_known_spelling_or_an_error(text):
    known = {spelling for name in CANONICAL for spelling in spellings(name)}
    words = text.replace(",", " ").replace(";", " ").split()
    valid = bool(words) and all(word.removesuffix("+PTX") in known for word in words)
    if valid:
        parsed = parse_archs(text, load_tables())
        assert parsed
        assert all(SPELLED.fullmatch(name) for name in parsed)
    else:
        with pytest.raises(GeneratorError, match="known: "):
            parse_archs(text, load_tables())
