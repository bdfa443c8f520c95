"""The manifest: complete, the source of the selector, and free of what is not asked for."""

import json
import re

import pytest
from marlin_gen.render import MANIFEST, SELECTOR, kernels_of, render, selector_key
from marlin_gen.spec import read_spec, spec_for_archs

ARCHS = "7.5,8.0,8.9"


@pytest.fixture(scope="module", params=["switch", "chain"])
def texts(request, tables):
    return render(spec_for_archs(ARCHS, tables, selector=request.param), tables)


def test_every_file_holds_exactly_the_symbols_of_its_manifest_entries(texts):
    manifest = json.loads(texts[MANIFEST])
    for file in manifest["files"][:-2]:
        symbols = [e["symbol"] for e in manifest["instantiations"] if e["file"] == file]
        found = re.findall(
            r"^template __global__ void (.*)\(MARLIN_KERNEL_PARAMS\);$", texts[file], re.M
        )
        assert [f"marlin_moe_wna16::{name}" for name in found] == symbols
    assert manifest["files"] == list(texts)


def test_selector_has_exactly_the_symbols_of_the_manifest(texts):
    symbols = [e["symbol"] for e in json.loads(texts[MANIFEST])["instantiations"]]
    assert re.findall(r"kernel = ([^;]*);", texts[SELECTOR]) == symbols


def test_entries_have_all_fields_and_the_capabilities_of_their_family(texts, tables):
    manifest = json.loads(texts[MANIFEST])
    capabilities = {family.name: list(family.capabilities) for family in tables.families}
    fields = set(
        "file family archs schemes symbol a_type b_type c_type s_type threads thread_m_blocks "
        "thread_n_blocks thread_k_blocks m_block_size_8 stages group_blocks is_zp_float "
        "cost".split()
    )
    for entry in manifest["instantiations"]:
        assert set(entry) == fields
        assert entry["archs"] == capabilities[entry["family"]]
        assert entry["file"].startswith(entry["family"] + "_kernel_")
    assert manifest["format_version"] == 2
    assert manifest["families"] == ["sm75", "sm80", "sm89"]
    assert manifest["schemes"] == [row["name"] for row in tables.schemes]


def test_a_taller_tile_costs_more(texts):
    costs = {}
    for entry in json.loads(texts[MANIFEST])["instantiations"]:
        rows = 8 if entry["m_block_size_8"] else 16 * entry["thread_m_blocks"]
        eight_bits = entry["a_type"] in ("kS8", "kFE4M3fn")
        costs.setdefault(eight_bits, {}).setdefault(rows, set()).add(entry["cost"])
    for by_rows in costs.values():
        listed = [cost for _, (cost,) in sorted(by_rows.items())]
        assert listed == sorted(set(listed))
    assert costs[False][32] == {100}, "the unit: percent of this one"


def test_files_do_not_depend_on_architectures_of_the_same_families(tables):
    assert render(spec_for_archs("8.9", tables), tables) == render(
        spec_for_archs("sm_121 12.0a+PTX,8.0,8.0", tables), tables
    )


def test_families_and_schemes_without_kernels_leave_no_trace(write_spec, tables):
    afp8 = ["gptq_int4_afp8", "awq_int4_afp8", "mxfp4_afp8"]
    rest = [row for row in tables.schemes if row["name"] not in afp8]
    texts = render(spec_for_archs("8.9", tables, schemes=[row["name"] for row in rest]), tables)
    assert render(*read_spec(write_spec(families=["sm80"], schemes=rest))) == texts
    assert render(spec_for_archs("8.0", tables), tables) == texts


def test_namespaces_reach_every_file(write_spec):
    spec_file = write_spec(
        type_namespace="my::types", kernel_namespace="my::kernels", families=["sm80"]
    )
    for name, text in render(*read_spec(spec_file)).items():
        assert "vllm" not in text
        assert "marlin_moe_wna16" not in text
        assert "my::types" in text, name
        assert "my::kernels" in text, name


def test_every_kernel_has_a_key_of_its_own(tables):
    kernels = kernels_of(spec_for_archs("7.5,8.9", tables), tables)
    keys = {int(selector_key(kernel).replace("'", ""), 16) for kernel in kernels}
    assert len(keys) == len(kernels)
    assert max(keys) < 2**64
