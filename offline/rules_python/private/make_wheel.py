"""Writes a wheel (PEP 427): the same bytes for the same files, whatever their times and owners.

    make_wheel.py --out WHEEL --folder NAME-VERSION --tag TAG --metadata FILE [OPTION...] PLACE;FILE

PLACE is where a file lies in its repository; without the prefix to strip, it is the place in the
wheel. Arguments can be given in a file, one a line, as @ARGUMENTS.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import stat
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold
_MODE = stat.S_IFREG | 0o644


def _strip(place: str, prefixes: Sequence[str]) -> str:
    """Cuts off the first of the prefixes that a place starts with."""
    for prefix in prefixes:
        if place.startswith(prefix):
            return place.removeprefix(prefix).lstrip("/")
    return place


def _pair(text: str) -> tuple[str, Path]:
    place, separator, path = text.partition(";")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: PLACE;FILE")
    return place, Path(path)


class _Wheel:
    """A wheel that is being written, and the lines of its RECORD."""

    def __init__(self, file: zipfile.ZipFile, folder: str) -> None:
        self._file = file
        self._distinfo = f"{folder}.dist-info"
        self._record: list[tuple[str, str, str]] = []

    def add(self, place: str, path: Path) -> None:
        digest, size = hashlib.sha256(), 0
        with (
            path.open("rb") as source,
            self._file.open(_entry(place), "w", force_zip64=True) as out,
        ):
            while chunk := source.read(1 << 20):
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self._note(place, digest.digest(), size)

    def add_distinfo(self, name: str, content: bytes) -> None:
        place = f"{self._distinfo}/{name}"
        self._file.writestr(_entry(place), content)
        self._note(place, hashlib.sha256(content).digest(), len(content))

    def finish(self) -> None:
        place = f"{self._distinfo}/RECORD"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*self._record, (place, "", "")])
        self._file.writestr(_entry(place), text.getvalue())

    def _note(self, place: str, digest: bytes, size: int) -> None:
        text = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        self._record.append((place, f"sha256={text}", str(size)))


def _entry(place: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(place, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, whatever this runs on
    entry.external_attr = _MODE << 16
    return entry


def write_wheel(options: argparse.Namespace) -> None:
    """Writes the wheel that the command line describes.

    Raises:
      ValueError: two files have the same place.
    """
    files: dict[str, Path] = {}
    for place, path in options.files:
        stripped = _strip(place, options.strip)
        if files.setdefault(stripped, path) != path:
            raise ValueError(f"{stripped} is both {files[stripped]} and {path}; allowed: one file")
    pure = "true" if options.tag.endswith("-any") else "false"
    wheel_text = f"Wheel-Version: 1.0\nGenerator: make_wheel\nRoot-Is-Purelib: {pure}\n"
    metadata = options.metadata.read_bytes()
    if options.description:
        metadata += b"\n" + options.description.read_bytes()
    with zipfile.ZipFile(options.out, "w") as file:
        wheel = _Wheel(file, options.folder)
        for place in sorted(files):
            wheel.add(place, files[place])
        wheel.add_distinfo("WHEEL", f"{wheel_text}Tag: {options.tag}\n".encode())
        wheel.add_distinfo("METADATA", metadata)
        for name, path in sorted(options.distinfo):
            wheel.add_distinfo(name, path.read_bytes())
        wheel.finish()


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(fromfile_prefix_chars="@")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", required=True, help="NAME-VERSION")
    parser.add_argument("--tag", required=True, help="PYTHON-ABI-PLATFORM")
    parser.add_argument("--metadata", type=Path, required=True, help="fields of METADATA")
    parser.add_argument("--description", type=Path, help="body of METADATA")
    parser.add_argument("--strip", action="append", default=[], help="prefix of places to cut off")
    parser.add_argument("--distinfo", action="append", default=[], type=_pair, help="NAME;FILE")
    parser.add_argument("files", nargs="*", type=_pair, metavar="PLACE;FILE")
    write_wheel(parser.parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
