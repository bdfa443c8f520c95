"""Each compiled object holds the cubins, the PTX and the kernels that it should, and no others.

Arguments: the description that compiled_kernels.bzl writes, then for some families the arch specs
that the description must give, such as sm80=compute_80:sm_80,compute_80:compute_80.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cuobjdump

LISTED = re.compile(r"^(?:ELF|PTX) file +\d+: .*\.(sm_\w+)\.(cubin|ptx)$", re.MULTILINE)
KERNEL = re.compile(r"^STT_FUNC +STB_\w+ +STO_ENTRY", re.MULTILINE)


def run(tool: Path, option: str, path: Path) -> str:
    command = [str(tool), option, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def code_in(tool: Path, path: Path) -> list[str]:
    """What an object holds: sm_80 for a cubin, compute_80 for PTX."""
    listed = []
    for option in ("--list-elf", "--list-ptx"):
        for arch, kind in LISTED.findall(run(tool, option, path)):
            listed.append(arch if kind == "cubin" else arch.replace("sm_", "compute_"))
    return sorted(listed)


def listed_as(spec: str) -> str:
    """How cuobjdump lists what an arch spec compiles to: it leaves out the f of sm_120f."""
    return spec.partition(":")[2].removesuffix("f")


def family_of(path: Path, specs: dict[str, list[str]]) -> str:
    prefix = path.name.partition("_kernel_")[0]
    return prefix if prefix in specs else "srcs"


def check_object(tool: Path, path: Path, specs: list[str], kernels: int | None) -> list[str]:
    """Returns what is wrong with an object, whose cubins should hold that many kernels each."""
    problems = []
    expected = sorted(listed_as(spec) for spec in specs)
    found = code_in(tool, path)
    if found != expected:
        problems.append(f"{path.name}: holds {found}, should hold {expected}")
    cubins = sum(listed_as(spec).startswith("sm_") for spec in specs)
    symbols = len(KERNEL.findall(run(tool, "--dump-elf-symbols", path)))
    if kernels is not None and symbols != kernels * cubins:
        problems.append(f"{path.name}: {symbols} kernels in {cubins} cubins, not {kernels} in each")
    return problems


def main(description_path: str, *demands: str) -> None:
    description = json.loads(Path(description_path).read_text(encoding="utf-8"))
    specs = description["specs"]
    manifest = json.loads(Path(description["manifest"]).read_text(encoding="utf-8"))
    kernels = Counter(Path(entry["file"]).stem for entry in manifest["instantiations"])

    problems = []
    for demand in demands:
        family, _, wanted = demand.partition("=")
        if specs.get(family) != wanted.split(","):
            problems.append(f"{family}: compiled for {specs.get(family)}, not for {wanted}")
    objects = [Path(path) for path in description["objects"]]
    names = {path.name.partition(".")[0] for path in objects}
    missing = {Path(source).stem for source in description["sources"]} - names
    problems += [f"{name}: there is no object of it" for name in sorted(missing)]
    tool = cuobjdump.unpack(Path(os.environ["TEST_TMPDIR"]))
    for path in objects:
        stem = path.name.partition(".")[0]
        problems += check_object(tool, path, specs[family_of(path, specs)], kernels.get(stem))
    if problems or not objects:
        sys.exit("\n".join(problems or ["no object was given"]))
    print(f"{len(objects)} objects hold what they should")


if __name__ == "__main__":
    main(*sys.argv[1:])
