"""A change runs exactly those actions again whose result it can change.

Every build here starts without outputs, in a clone that never built them, and with the cache that
another checkout has filled. What ran is in the clone's execution log.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

import pytest
from clone import Clone
from comparison import ColdBuild, digests_below
from execution_log import executed
from subject import BUILD_FILE, KERNELS, PACKAGE

GENERATE = "MarlinGenerate kernels.generated"
SELECTOR = "CppCompile kernel_table.pic.o"
LINK = "CppLink liblauncher.so"
SM80_INT4_ARCHIVE = "CppArchive libkernels.sm80.int4_weights.a"
SM80_FP8_ARCHIVE = "CppArchive libkernels.sm80.fp8_weights.a"
SM80_INT4 = "CudaCompile sm80_kernel_float16_u4b8_float16.pic.o"
SM80_FP8 = "CudaCompile sm80_kernel_bfloat16_fe4m3fn_bfloat16.pic.o"
SM80_NEW = "CudaCompile sm80_kernel_float16_u4_float16.pic.o"
SM89_FILES = {
    "CudaCompile sm89_kernel_fe4m3fn_u4b8_bfloat16.pic.o",
    "CppArchive libkernels.sm89.fp8_activations.a",
}

GENERATOR = "tools/marlin_gen/gen.py"
TABLE = "private/quant_schemes.bzl"
TEMPLATE = "csrc/marlin_moe/kernel/marlin_template.h"

# One tile of a scheme that the subject does not have, as a custom one and as one of the table.
CUSTOM_SCHEME = """quant_scheme(
    name = "subject_new",
    a_type = ["kFloat16"],
    b_type = "kU4",
    group_blocks = [8],
    thread_configs = [(128, 128, 256)],
    thread_m_blocks = [1],
)"""
TABLE_START = "\nQUANT_SCHEMES = [\n"
TABLE_SCHEME = """
QUANT_SCHEMES = [
    {
        "name": "subject_new",
        "a_type": ["kFloat16"],
        "b_type": "kU4",
        "c_type": [],
        "s_type": "",
        "tiles": [(128, 128, 256, [1])],
        "group_blocks": [8],
    },
"""


def test_fresh_clone_elsewhere_runs_nothing(
    one_clone: Clone, cold_builds: Mapping[str, ColdBuild]
) -> None:
    first = one_clone.first
    cold = cold_builds["sandboxed, one job"].spawns
    assert {spawn.name for spawn in first} == {spawn.name for spawn in cold}
    assert {SM80_INT4, SM80_FP8, GENERATE, LINK} <= {spawn.name for spawn in first}
    one_clone.table["fresh clone elsewhere"] = (first, executed(first))
    assert executed(first) == []


def test_second_build_does_not_even_ask_the_cache(clone: Clone) -> None:
    assert clone.build()
    assert clone.build_again() == []


def test_another_architecture_adds_its_own_files(clone: Clone) -> None:
    ran = clone.change("sm_80 → sm_80,sm_89", "--cuda_archs=sm_80,sm_89")
    assert ran == {GENERATE, *SM89_FILES, SELECTOR, LINK}


@pytest.mark.parametrize("archs", ["8.0", " 80,sm_80", "8.6 sm_80"])
def test_another_way_to_ask_for_the_same_code_runs_nothing(clone: Clone, archs: str) -> None:
    assert clone.change(f"sm_80 → {archs!r}", f"--cuda_archs={archs}") == set()


def test_another_order_runs_nothing(clone: Clone) -> None:
    clone.build("--cuda_archs=sm_80,sm_89")
    assert clone.change("sm_80,sm_89 → 8.9 8.0", "--cuda_archs=8.9 8.0") == set()


def test_another_cubin_of_the_same_family_compiles_and_links(clone: Clone) -> None:
    ran = clone.change("sm_80 → sm_86", "--cuda_archs=sm_86")
    launcher = {"CudaCompile permute_columns.pic.o", "CudaCompile stage_rows.pic.o"}
    archives = {SM80_INT4_ARCHIVE, SM80_FP8_ARCHIVE}
    # The selector's file also names what was built.
    assert ran == {SM80_INT4, SM80_FP8, *launcher, *archives, SELECTOR, LINK}


def test_custom_scheme_adds_its_own_files(clone: Clone) -> None:
    last = "        INT4_AFP8,\n"
    text = clone.checkout.replaced(BUILD_FILE, last, f"{last}{CUSTOM_SCHEME},\n")
    with clone.checkout.edited({BUILD_FILE: text}):
        ran = clone.change("custom scheme added")
    assert ran == {GENERATE, SM80_NEW, SM80_INT4_ARCHIVE, SELECTOR, LINK}


def test_scheme_of_the_table_adds_its_own_files(clone: Clone) -> None:
    edits = {
        TABLE: clone.checkout.replaced(TABLE, TABLE_START, TABLE_SCHEME),
        BUILD_FILE: clone.checkout.replaced(
            BUILD_FILE, "quant_schemes = [],", 'quant_schemes = ["subject_new"],'
        ),
    }
    with clone.checkout.edited(edits):
        ran = clone.change("scheme added to the table and chosen")
    assert ran == {GENERATE, SM80_NEW, SM80_INT4_ARCHIVE, SELECTOR, LINK}


def test_scheme_of_the_table_that_is_not_chosen_compiles_nothing(clone: Clone) -> None:
    edits = {TABLE: clone.checkout.replaced(TABLE, TABLE_START, TABLE_SCHEME)}
    with clone.checkout.edited(edits):
        ran = clone.change("scheme added to the table, not chosen")
    assert ran == {GENERATE}


def test_removed_scheme_compiles_no_kernel(clone: Clone) -> None:
    text = clone.checkout.replaced(BUILD_FILE, "        FP8,\n", "")
    with clone.checkout.edited({BUILD_FILE: text}):
        ran = clone.change("scheme removed")
    assert ran == {GENERATE, SELECTOR, LINK}


def test_comment_in_the_generator_compiles_nothing(clone: Clone) -> None:
    text = clone.checkout.read(GENERATOR) + "# A comment.\n"
    with clone.checkout.edited({GENERATOR: text}):
        ran = clone.change("comment in gen.py")
    assert ran == {GENERATE}


def test_comments_in_the_tables_run_nothing(clone: Clone) -> None:
    names = [f"private/{name}.bzl" for name in ("cxx_keywords", "families", "quant_schemes")]
    edits = {name: clone.checkout.read(name) + "# A comment.\n" for name in names}
    with clone.checkout.edited(edits):
        assert clone.change("comments in the tables") == set()


def test_generator_written_anew_compiles_nothing(clone: Clone) -> None:
    folder = clone.checkout.tree / "tools/marlin_gen"
    files = [GENERATOR]
    files += [f"tools/marlin_gen/marlin_gen/{path.name}" for path in folder.glob("marlin_gen/*.py")]
    texts = {name: clone.checkout.read(name) for name in files}
    # Without comments, and with every expression spelled as Python itself spells it.
    written_anew = {name: ast.unparse(ast.parse(text)) for name, text in texts.items()}
    edits = {name: text for name, text in written_anew.items() if text != texts[name]}
    assert len(edits) > 5
    with clone.checkout.edited(edits):
        ran = clone.change("generator refactored, same output")
    assert ran == {GENERATE}


def test_header_of_every_kernel_compiles_every_kernel(clone: Clone) -> None:
    text = clone.checkout.read(TEMPLATE) + "// A comment.\n"
    with clone.checkout.edited({TEMPLATE: text}):
        ran = clone.change("comment in marlin_template.h")
    assert ran == {SM80_INT4, SM80_FP8}


@pytest.mark.parametrize(
    ("header", "kernels"),
    [
        ("int4_weights.cuh", {SM80_INT4}),
        ("fp8_weights.cuh", {SM80_FP8}),
        ("int8_weights.cuh", set()),
        ("multiplier.cuh", {SM80_INT4, SM80_FP8}),
        ("multiplier_a8.cuh", set()),
    ],
)
def test_header_of_some_kernels_compiles_those(
    clone: Clone, header: str, kernels: set[str]
) -> None:
    name = f"csrc/marlin_moe/kernel/{header}"
    with clone.checkout.edited({name: clone.checkout.read(name) + "// A comment.\n"}):
        ran = clone.change(f"comment in {header}")
    assert ran == kernels


def test_launcher_compiles_no_kernel(clone: Clone) -> None:
    source = "csrc/marlin_moe/host/moe_gemm.cc"
    text = clone.checkout.read(source) + "// A comment.\n"
    with clone.checkout.edited({source: text}):
        ran = clone.change("comment in moe_gemm.cc")
    assert ran == {"CppCompile moe_gemm.pic.o"}


def test_documentation_runs_nothing(clone: Clone) -> None:
    with clone.checkout.edited({"README.md": clone.checkout.read("README.md") + "\nMore.\n"}):
        assert clone.change("README.md") == set()


@pytest.mark.parametrize("mode", ["dbg", "opt"])
def test_objects_are_the_same_in_every_compilation_mode(
    clone: Clone, cold_builds: Mapping[str, ColdBuild], mode: str
) -> None:
    title = f"fastbuild → {mode} (the kernels alone, with the same objects)"
    clone.change(title, f"--compilation_mode={mode}", targets=[KERNELS])
    made = digests_below(clone.checkout.bin_folder(f"--compilation_mode={mode}"), [PACKAGE])
    objects = {path: digest for path, digest in made.items() if path.endswith(".o")}
    cold = cold_builds["sandboxed, one job"].digests
    wanted = {path: cold[path] for path in cold if path.endswith(".o") and PACKAGE in path}
    assert len(wanted) == 2
    assert objects == wanted


def test_with_mapped_paths_the_generator_runs_once_for_all_modes(clone: Clone) -> None:
    mapped = "--experimental_output_paths=strip"
    assert GENERATE in clone.change("mapped paths, fastbuild", mapped, targets=[KERNELS])
    for mode in ("dbg", "opt"):
        options = [mapped, f"--compilation_mode={mode}"]
        ran = clone.change(f"mapped paths, {mode}", *options, targets=[KERNELS])
        assert GENERATE not in ran
        assert SM80_INT4 in ran
