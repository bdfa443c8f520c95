"""Draws the charts and fills in the tables of the docs from docs/benchmarks/*.json.

    bazel run //tools/charts
    bazel run //tools/charts -- --take FILE.json --versions marlin_moe_kernels=REV vLLM=0.33.0

Writes docs/charts/*.svg and the marked tables of docs/**/*.md. --take first replaces the checked-in
results by new ones, which tests/gpu/compare_with_vllm.py, a comparison with Humming or
tools/bench_build/compare_with_vllm.py wrote with --out.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import drawing
import tables
from results import HUMMING_GEMM, VLLM_COMPILE, VLLM_GEMM, Results, ResultsError, read, take


def made(docs: Path, new: Mapping[str, Results] | None = None) -> Mapping[Path, str]:
    """Returns the text of every chart and of every document with tables.

    Args:
      docs: the folder of the docs.
      new: results in the place of checked-in files, by file name; returned as well.

    Raises:
      ResultsError: a file of results is missing or damaged, or does not have what a chart shows.
      tables.TableError: a document names a table that there is not.
    """
    new = new or {}
    folder = docs / "benchmarks"
    names = (VLLM_GEMM, HUMMING_GEMM, VLLM_COMPILE)
    results = [new.get(name) or read(folder / name) for name in names]
    filled = tables.all_tables(*results)
    texts = {folder / name: content.text() for name, content in new.items()}
    for path in sorted(docs.rglob("*.md")):
        texts[path] = tables.with_tables(path.read_text(encoding="utf-8"), filled)
    for name, text in drawing.all_charts(*results).items():
        texts[docs / "charts" / name] = text
    return texts


def _version(text: str) -> tuple[str, str]:
    name, equals, version = text.partition("=")
    if not (name and equals and version):
        raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: NAME=VERSION")
    return name, version


def _date(text: str) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: YYYY-MM-DD") from error


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    workspace = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    parser.add_argument("--docs", type=Path, default=workspace / "docs", help="default: docs")
    parser.add_argument("--take", type=Path, help="new results, JSON")
    parser.add_argument("--versions", type=_version, nargs="+", help="of what --take compares")
    parser.add_argument("--date", type=_date, help="of --take; default: today")
    options = parser.parse_args(argv)
    if bool(options.take) != bool(options.versions):
        parser.error("--take and --versions go together")
    if options.take:
        # `bazel run` starts programs elsewhere.
        options.take = Path(os.environ.get("BUILD_WORKING_DIRECTORY", "."), options.take)
    return options


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the process's exit code."""
    options = _parse(argv)
    try:
        new = {}
        if options.take:
            date = options.date or datetime.date.today().isoformat()
            name, results = take(options.take, date, dict(options.versions))
            new[name] = results
        texts = made(options.docs, new)
    except (ResultsError, tables.TableError) as error:
        print(f"charts: {error}", file=sys.stderr)
        return 1
    for path, text in texts.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
