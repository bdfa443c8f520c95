"""Holds what a library needs of a machine against what its wheel's tags promise.

    library_needs.py LIBRARY REPORT --glibc 2.34 --cuda 13

Writes what the library needs to REPORT, and fails if that is more than machines have on which pip
installs the wheel: a newer glibc, a newer C++ library than those machines come with, or the runtime
of another CUDA.
"""

from __future__ import annotations

import argparse
import re
import struct
import sys
from pathlib import Path

# The symbol versions of libstdc++ on systems with a glibc: AlmaLinux 8 (GCC 8), AlmaLinux 9 (GCC
# 11), Ubuntu 22.04 (GCC 12), Ubuntu 24.04 (GCC 14). As libstdc++'s manual lists them by GCC.
_PROMISED = {
    "2.28": {"GLIBC": "2.28", "GLIBCXX": "3.4.25", "CXXABI": "1.3.11"},
    "2.34": {"GLIBC": "2.34", "GLIBCXX": "3.4.29", "CXXABI": "1.3.13"},
    "2.35": {"GLIBC": "2.35", "GLIBCXX": "3.4.30", "CXXABI": "1.3.13"},
    "2.39": {"GLIBC": "2.39", "GLIBCXX": "3.4.33", "CXXABI": "1.3.15"},
}
_DYNAMIC, _VERNEED = 6, 0x6FFFFFFE  # types of sections
_NEEDED = 1  # tag of a dynamic entry


class Elf:
    """A 64-bit little-endian ELF file."""

    def __init__(self, content: bytes) -> None:
        if content[:6] != b"\x7fELF\x02\x01":
            raise SystemExit("not a 64-bit little-endian ELF file")
        self._content = content
        start, *_, size, count, _ = struct.unpack_from("<QIHHHHHH", content, 40)
        self._sections = [
            struct.unpack_from("<IIQQQQIIQQ", content, start + size * i) for i in range(count)
        ]

    def _text(self, section: int, offset: int) -> str:
        start = self._sections[section][4] + offset
        return self._content[start : self._content.index(b"\0", start)].decode()

    def libraries(self) -> list[str]:
        """Returns the names of the libraries that it is linked with."""
        found = []
        for _, kind, _, _, offset, size, strings, *_ in self._sections:
            for at in range(offset, offset + size if kind == _DYNAMIC else offset, 16):
                tag, value = struct.unpack_from("<QQ", self._content, at)
                if tag == _NEEDED:
                    found.append(self._text(strings, value))
        return found

    def versions(self) -> list[str]:
        """Returns the symbol versions that it needs, such as `GLIBC_2.29`."""
        found = []
        for _, kind, _, _, at, _, strings, libraries, *_ in self._sections:
            for _ in range(libraries if kind == _VERNEED else 0):
                _, count, _, first, following = struct.unpack_from("<HHIII", self._content, at)
                entry = at + first
                for _ in range(count):
                    *_, name, after = struct.unpack_from("<IHHII", self._content, entry)
                    found.append(self._text(strings, name))
                    entry += after
                at += following
        return sorted(set(found))


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def complaints(elf: Elf, glibc: str, cuda: str) -> list[str]:
    """Returns what is needed beyond what is promised."""
    found = []
    for version in elf.versions():
        family, _, number = version.partition("_")
        most = _PROMISED[glibc].get(family)
        if most and re.fullmatch(r"[\d.]+", number) and _number(number) > _number(most):
            found.append(f"{version}; machines with glibc {glibc} have {family}_{most}")
    for library in elf.libraries():
        runtime = re.fullmatch(r"libcudart\.so\.(\d+)", library)
        if runtime and runtime[1] != cuda:
            found.append(f"{library}; the wheel says CUDA {cuda}: build with --//python:cuda")
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--glibc", choices=_PROMISED, required=True)
    parser.add_argument("--cuda", required=True)
    options = parser.parse_args(argv)
    elf = Elf(options.library.read_bytes())
    found = complaints(elf, options.glibc, options.cuda)
    for complaint in found:
        print(f"{options.library.name} needs {complaint}", file=sys.stderr)
    if any("glibc" in complaint for complaint in found):
        print(
            f"build on an older system, or promise less: --//python:glibc={'|'.join(_PROMISED)}",
            file=sys.stderr,
        )
    options.report.write_text("\n".join([*elf.libraries(), *elf.versions()]) + "\n", "utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
