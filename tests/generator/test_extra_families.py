"""Families beyond the documented ones: there where they are asked for, and nowhere else."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from marlin_gen.errors import GeneratorError
from marlin_gen.kernels import enumerate_kernels
from marlin_gen.render import MANIFEST, SELECTOR, render, selector_key
from marlin_gen.schemes import table_schemes
from marlin_gen.spec import read_spec, spec_for_archs

STUB = Path(__file__).parent / "stub"
SM90_SELECTOR = "sm90_kernel_selector.h"
MOST_KERNELS = 250


def is_sm90(name):
    return name.startswith("sm90_")


@pytest.fixture(scope="module")
def sm90_kernels(tables):
    families = [family for family in tables.families if family.name == "sm90"]
    return enumerate_kernels(families, list(table_schemes(tables).values()), tables)


@pytest.fixture(scope="module")
def texts(tables):
    return render(spec_for_archs("9.0", tables, extra_families=["sm90"]), tables)


def test_the_family_comes_on_top_of_what_is_there_without_it(texts, tables):
    without = render(spec_for_archs("9.0", tables), tables)
    assert not any(map(is_sm90, without))
    rest = {name: text for name, text in texts.items() if not is_sm90(name) and name != MANIFEST}
    assert rest == {name: text for name, text in without.items() if name != MANIFEST}
    manifests = [json.loads(some[MANIFEST]) for some in (texts, without)]
    entries, entries_without = (manifest["instantiations"] for manifest in manifests)
    assert [entry for entry in entries if entry["family"] != "sm90"] == entries_without
    assert [manifest["families"] for manifest in manifests] == [["sm80", "sm90"], ["sm80"]]
    assert manifests[0]["files"] == list(texts)


def test_other_architectures_have_none_of_it(tables):
    archs = ",".join(arch.capability for arch in tables.archs if arch.capability != "9.0")
    spec = spec_for_archs(archs, tables, extra_families=["sm90"])
    assert not any(map(is_sm90, render(spec, tables)))


def outputs(a_type, s_type):
    """The output types of kernels: 16-bit activations' own one, and bf16 alone for MXFP4."""
    if a_type in ("kFloat16", "kBFloat16"):
        return [a_type]
    return ["kBFloat16"] if s_type == "kFE8M0fnu" else ["kFloat16", "kBFloat16"]


def test_kernels_are_those_of_the_table(sm90_kernels, tables):
    found = {
        (*(scalar.name for scalar in kernel.types), *kernel.shape.values())
        for kernel in sm90_kernels
    }
    expected = {
        (a_type, b_type, c_type, row.s_type or c_type, *tile, 0, group_blocks)
        for row in tables.tile_tables["SM90_TILES"]
        for a_type in row.a_types
        for b_type in row.b_types
        for c_type in outputs(a_type, row.s_type)
        for group_blocks in row.group_blocks
        for tile in row.tiles
    }
    assert found == expected
    assert len(found) == len(sm90_kernels) <= MOST_KERNELS


def test_tiles_are_those_that_the_template_takes(tables):
    for row in tables.tile_tables["SM90_TILES"]:
        assert len(set(row.tiles)) == len(row.tiles)
        for block_rows, thread_n, blocks_per_sm in row.tiles:
            assert block_rows in range(8, 257, 8)
            assert thread_n in (128, 256, 512)
            assert blocks_per_sm in (1, 2)


def test_files_hold_the_kernels_of_the_manifest(texts):
    entries = [e for e in json.loads(texts[MANIFEST])["instantiations"] if e["family"] == "sm90"]
    assert entries
    for entry in entries:
        assert entry["archs"] == ["9.0"]
        assert entry["symbol"].startswith("marlin_moe_wna16::MarlinSm90<")
    found = [
        f"marlin_moe_wna16::{name}"
        for file, text in texts.items()
        if is_sm90(file) and file.endswith(".cu")
        for name in re.findall(
            r"^template __global__ void (.*)\(MARLIN_KERNEL_PARAMS\);$", text, re.M
        )
    ]
    symbols = [entry["symbol"] for entry in entries]
    assert found == symbols
    assert re.findall(r"kernel = ([^;]*);", texts[SM90_SELECTOR]) == symbols
    assert "MarlinSm90" not in texts[SELECTOR]


def test_a_run_replaces_and_removes_what_an_earlier_one_wrote(run_gen, tmp_path):
    first = run_gen("9.0", tmp_path, "--extra-families", "sm90", "--schemes", "gptq_int4")
    assert first.returncode == 0
    written = {path.name for path in tmp_path.iterdir()}
    assert SM90_SELECTOR in written
    (tmp_path / SM90_SELECTOR).write_text((tmp_path / SM90_SELECTOR).read_text() + "// edited\n")
    again = run_gen("9.0", tmp_path, "--extra-families", "sm90", "--schemes", "gptq_int4")
    assert again.returncode == 0
    assert f"wrote {SM90_SELECTOR}" in again.stdout
    without = run_gen("9.0", tmp_path, "--schemes", "gptq_int4")
    assert without.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {n for n in written if not is_sm90(n)}


def test_unknown_and_impossible_families_are_refused(tables, write_spec):
    for name in ("sm80", "sm91"):
        with pytest.raises(GeneratorError, match=f'"{name}" is not allowed; allowed: sm90'):
            spec_for_archs("9.0", tables, extra_families=[name])
    with pytest.raises(GeneratorError, match="sm90 are not allowed for kernels of another tree"):
        spec_for_archs("9.0", tables, extra_families=["sm90"], scheme_headers=False)
    with pytest.raises(GeneratorError, match="sm90 are not allowed for kernels of another tree"):
        read_spec(write_spec(families=["sm80", "sm90"], scheme_headers=False))


def test_the_list_shows_both_templates(run_gen):
    listed = run_gen("9.0", "--list", "--extra-families", "sm90")
    assert listed.returncode == 0
    heading, *lines = listed.stdout.splitlines()
    columns = heading.split()
    assert columns[-3:] == ["block_rows", "thread_n", "blocks_per_sm"]
    rows = [dict(zip(columns, line.split(), strict=True)) for line in lines]
    for row in rows:
        assert (row["threads"] == "-") == is_sm90(row["file"]) == (row["block_rows"] != "-")
    assert any(is_sm90(row["file"]) for row in rows)
    assert "block_rows" not in run_gen("9.0", "--list").stdout


PROGRAM = """
#include <cstdio>
#include <initializer_list>
#include "scalar_types.h"

namespace marlin_moe_wna16 {
using Arguments = long long[9];
template <vllm::ScalarTypeId a, vllm::ScalarTypeId b, vllm::ScalarTypeId c, vllm::ScalarTypeId s,
          int rows, int n, int per_sm, int stages, int groups>
void MarlinSm90(Arguments& out) {
  const Arguments all = {a, b, c, s, rows, n, per_sm, stages, groups};
  for (int i = 0; i < 9; ++i) out[i] = all[i];
}
}  // namespace marlin_moe_wna16

using Kernel = void (*)(marlin_moe_wna16::Arguments&);
using vllm::ScalarType;

Kernel select(const ScalarType& a_type, const ScalarType& b_type, const ScalarType& c_type,
              const ScalarType& s_type, int block_rows, int thread_n, int blocks_per_sm,
              int group_blocks) {
  Kernel kernel = nullptr;
#include "sm90_kernel_selector.h"
  return kernel;
}

int main() {
  using namespace vllm;
  const ScalarType types[] = {TYPES};
  for (const ScalarType& a : types)
    for (const ScalarType& b : types)
      for (const ScalarType& c : types)
        for (const ScalarType& s : types)
          for (const int rows : {-8, 0, 4104, ROWS})
            for (const int n : {-256, 0, 256 + 4096, N})
              for (const int per_sm : {-1, 0, 1, 2, 3, 17, 18})
                for (const int groups : {-2, -1, 0, 1, 2, 4, 8, 8 + 256}) {
                  const Kernel kernel = select(a, b, c, s, rows, n, per_sm, groups);
                  if (kernel == nullptr) continue;
                  marlin_moe_wna16::Arguments got;
                  kernel(got);
                  const long long asked[] = {a.id(), b.id(), c.id(),  s.id(), rows,
                                             n,      per_sm, 0,       groups};
                  for (int i = 0; i < 9; ++i)
                    if (got[i] != asked[i]) return 1;
                  std::puts("found");
                }
}
"""


def test_the_selector_finds_every_kernel_and_no_other(tables, sm90_kernels, tmp_path):
    schemes = list(table_schemes(tables))
    spec = spec_for_archs("9.0", tables, schemes=schemes, extra_families=["sm90"])
    assert len({selector_key(kernel) for kernel in sm90_kernels}) == len(sm90_kernels)
    values = {
        "TYPES": dict.fromkeys(scalar.name for kernel in sm90_kernels for scalar in kernel.types)
        | {"kU8": None},
        "ROWS": dict.fromkeys(str(kernel.shape["block_rows"]) for kernel in sm90_kernels),
        "N": dict.fromkeys(str(kernel.shape["thread_n"]) for kernel in sm90_kernels),
    }
    program = PROGRAM
    for name, used in values.items():
        program = re.sub(rf"\b{name}\b", ", ".join(used), program)
    (tmp_path / "main.cc").write_text(program)
    (tmp_path / SM90_SELECTOR).write_text(render(spec, tables)[SM90_SELECTOR])
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{STUB}", f"-I{tmp_path}"]
    subprocess.run([*command, tmp_path / "main.cc", "-o", tmp_path / "main"], check=True)
    found = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout
    assert found.count("found") == len(sm90_kernels)
