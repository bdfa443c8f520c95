"""Kernels of the sm90 family have the registers that setmaxnreg deals out, hardly spill, and
multiply while they decode.

Arguments: the library of sm90_kernels.cu.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import cuobjdump

KERNELS = 18
KERNELS_OF_EIGHT_STEPS = 3
# A block of 384 threads gets so many for each of them, with one or two blocks on a multiprocessor.
REGISTERS = {1: 168, 2: 80}
# What lives across the call that counts blocks, at a block's start.
MOST_STACK = 16
USAGE = re.compile(r"Function (\S*MarlinSm90\S*):\s+(.*)")
BLOCKS_PER_SM = re.compile(r"10MarlinSm90I(?:L[a-z]n?\d+E){6}L[a-z](\d)E")

# WARPGROUP.DEPBAR.LE gsb0, 0x1, without the bits of its scheduling: a wait for all products but the
# last ones. Where ptxas has to serialise products (its messages C7510 to C7520), it turns all waits
# into waits for everything.
WAIT_BUT_LAST = bytes.fromhex("c579000000800000" + "00010100")
# Of the four steps of a stage, and of the three before the last one of a tile.
WAITS = 7
WAITS_OF_EIGHT_STEPS = 15


def cubins(tool: Path, library: Path) -> list[bytes]:
    """The machine code in a library."""
    folder = Path(os.environ["TEST_TMPDIR"]) / "cubins"
    folder.mkdir()
    command = [str(tool), "--extract-elf", "all", str(library.resolve())]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return [path.read_bytes() for path in folder.glob("*.cubin")]


def main() -> None:
    tool = cuobjdump.unpack(Path(os.environ["TEST_TMPDIR"]))
    found = 0
    waits = 0
    for library in (path for path in sys.argv[1:] if path.endswith((".a", ".o"))):
        command = [str(tool), "--dump-resource-usage", library]
        for cubin in cubins(tool, Path(library)):
            waits += cubin.count(WAIT_BUT_LAST)
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for function, usage in USAGE.findall(listing):
            found += 1
            figures = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", usage)}
            blocks = BLOCKS_PER_SM.search(function)
            assert blocks, f"{function} is not mangled as expected"
            assert figures["REG"] == REGISTERS[int(blocks[1])], f"{function}: {usage}"
            assert figures["STACK"] <= MOST_STACK, f"{function} spills: {usage}"
            assert figures["LOCAL"] == 0, f"{function} has arrays in local memory: {usage}"
    assert found == KERNELS, f"{found} kernels instead of {KERNELS}"
    few = KERNELS - KERNELS_OF_EIGHT_STEPS
    expected = WAITS * few + WAITS_OF_EIGHT_STEPS * KERNELS_OF_EIGHT_STEPS
    assert waits == expected, (
        f"{waits} waits for all but the last products, not {expected}: ptxas serialised some, "
        "see its messages with --resource-usage"
    )


if __name__ == "__main__":
    main()
