"""Headers for certain types: each kernel file includes the one that has its types, and no other."""

import re
from itertools import product

from marlin_gen.render import render, scheme_headers
from marlin_gen.spec import spec_for_archs

ARCHS = "7.5,8.9"
TEMPLATE = ["kernel.h", "marlin_template.h"]


def includes(text):
    return re.findall(r'^#include "(.*)"$', text, re.M)


def kernel_texts(texts):
    return {name: text for name, text in texts.items() if name.endswith(".cu")}


def test_allowed_types_have_one_header(tables):
    found = set()
    for row in tables.combinations:
        for a_type in row.a_types:
            headers = [
                header.name
                for header in tables.scheme_headers
                if a_type in header.a_types and row.b_type in header.b_types
            ]
            assert len(headers) == 1, (a_type, row.b_type)
            found.update(headers)
    assert found == {header.name for header in tables.scheme_headers}


def test_headers_have_no_other_types(tables):
    allowed = {(a_type, row.b_type) for row in tables.combinations for a_type in row.a_types}
    for header in tables.scheme_headers:
        assert set(product(header.a_types, header.b_types)) <= allowed, header.name


def test_every_file_includes_the_header_of_its_types(shared_kernel_files, tables):
    for case in shared_kernel_files:
        headers = {kernel.file: scheme_headers(kernel, tables) for kernel in case.kernels}
        assert headers == {name: [f"{header}.cuh"] for name, header in case.files.items()}
    spec = spec_for_archs(f"{ARCHS},9.0", tables, extra_families=["sm90"])
    texts = kernel_texts(render(spec, tables))
    sm90_template = ["kernel.h", "sm90/sm90_template.h"]
    expected = {
        name: [*(sm90_template if name.startswith("sm90_") else TEMPLATE), f"{header}.cuh"]
        for case in shared_kernel_files
        if not case.custom
        for name, header in case.files.items()
    }
    assert {name: includes(text) for name, text in texts.items()} == expected


def test_without_scheme_headers_nothing_else_changes(tables):
    with_headers = render(spec_for_archs(ARCHS, tables), tables)
    without = render(spec_for_archs(ARCHS, tables, scheme_headers=False), tables)
    for name, text in kernel_texts(without).items():
        assert includes(text) == TEMPLATE
        assert re.sub(r'#include "\w+\.cuh"\n', "", with_headers[name]) == text
    rest = set(without) - set(kernel_texts(without))
    assert {name: without[name] for name in rest} == {name: with_headers[name] for name in rest}
    assert set(with_headers) == set(without)
