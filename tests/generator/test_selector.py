"""Both selectors, compiled and run: each key finds its kernel, every other key finds none."""

import itertools
import os
import random
import shutil
import subprocess
from pathlib import Path

import gen
import pytest
from marlin_gen.render import kernels_of
from marlin_gen.spec import spec_for_archs

ARCHS = "7.5,8.0,8.9,9.0,12.0"
STUB = Path(__file__).parent / "stub"
TYPES = "kFloat16 kBFloat16 kS8 kFE4M3fn kU4 kU4B8 kU8B128 kFE2M1f kFE8M0fnu kU8 kUnheardOf".split()
# For each number of a key, from threads to is_zp_float: values that no kernel has, and ones that
# could be taken for another if fields of a packed key overlapped.
ODD_VALUES = (
    (0, -1, -128, 64, 129, 512, 128 + 4096, 256 + 65536, 2**31 - 1),
    (0, -1, 5, 1 + 16, 2 + 256, -(2**31)),
    (0, -1, 4, 8 + 256, 16 + 4096),
    (0, -1, 2, 4 + 256, 8 + 65536),
    (0, 1),
    (0, -1, 1, 3, 5, 4 + 16, 2 + 256),
    (-3, -2, 3, 16, -1 + 256, 8 + 256, 2**31 - 1, -(2**31)),
    (1,),
)


def compile_cxx(source, *arguments):
    """Compiles with warnings as errors."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    assert compiler, "no C++ compiler: set CXX or install g++"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{STUB}", *arguments]
    subprocess.run([*command, "-x", "c++", str(source), "-x", "none"], check=True)


@pytest.fixture(scope="module")
def keys(tables):
    """The template arguments of every kernel."""
    kernels = kernels_of(spec_for_archs(ARCHS, tables), tables)
    return [(*(t.name for t in k.types), *map(int, k.shape.values())) for k in kernels]


@pytest.fixture(scope="module", params=["switch", "chain"])
def select(request, tmp_path_factory):
    """Asks the compiled selector for many keys at once."""
    out = tmp_path_factory.mktemp(request.param)
    report = gen.generate_new_kernels(ARCHS, out, selector=request.param, scheme_headers=False)
    kernels = [path for path in report.files if path.suffix == ".cu"]
    everything = out / "all.cc"
    everything.write_text("".join(f'#include "{path.name}"\n' for path in kernels))
    parts = [(everything, out / "all.o"), (STUB / "select.cc", out / "select.o")]
    for source, part in parts:
        compile_cxx(source, "-O0", f"-I{out}", "-c", "-o", str(part))
    objects = [str(part) for _, part in parts]
    compile_cxx(STUB / "main.cc", "-O0", *objects, "-o", str(out / "main"))

    def answers(asked):
        text = "".join(" ".join(map(str, key)) + "\n" for key in asked)
        result = subprocess.run(
            [out / "main"], input=text, capture_output=True, text=True, check=True
        )
        return result.stdout.splitlines()

    return answers


def expected(asked, keys):
    known = set(keys)
    return [" ".join(map(str, key)) if key in known else "none" for key in asked]


def test_every_key_selects_its_kernel(select, keys):
    assert len(keys) == 848
    assert select(keys) == [" ".join(map(str, key)) for key in keys]


def test_keys_one_field_away_select_their_kernel_or_none(select, keys):
    asked = []
    for key in random.Random(1).sample(keys, 200):
        for position, values in enumerate([TYPES] * 4 + list(ODD_VALUES)):
            asked += [(*key[:position], value, *key[position + 1 :]) for value in values]
    answers = expected(asked, keys)
    assert answers.count("none") > len(asked) // 2
    assert select(asked) == answers


def test_all_combinations_of_used_values_select_their_kernel_or_none(select, keys):
    columns = [sorted(set(column)) for column in zip(*keys, strict=True)]
    asked = random.Random(2).choices(list(itertools.product(*columns)), k=200_000)
    assert select(asked) == expected(asked, keys)
