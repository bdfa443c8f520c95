"""The Markdown tables of docs that show benchmark results, between comments that name them.

A document has `<!-- table: NAME -->` before and `<!-- end of table -->` behind each of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from drawing import kernels_of, seconds_per_kernel
from results import (
    Point,
    Results,
    geometric_mean,
    humming_over_ours,
    means_by_tokens,
    ordered,
    vllm_over_ours,
)

_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->\n)", re.DOTALL)


class TableError(Exception):
    """A document asks for a table that there is not."""


# Of a point that was not timed.
_NONE = "-"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _headings(tokens: Sequence[int]) -> list[str]:
    return [f"{count:,}" for count in tokens]


def _means(results: Results, ratio: Callable[[Point], float]) -> str:
    """Geometric means over layers: a row for each case, a column for each number of tokens."""
    tokens = sorted(ordered(results.points, "m"))
    rows = []
    for case in ordered(results.points, "case"):
        of_case = [p for p in results.points if p["case"] == case]
        layers = ordered(of_case, "layer")
        means = means_by_tokens(results.points, ratio, case, layers)
        all_points = geometric_mean(ratio(p) for p in of_case)
        least = min(ratio(p) for p in of_case)
        cells = [f"{means[count]:.2f}" if count in means else _NONE for count in tokens]
        ends = [f"{all_points:.2f}", f"{least:.2f}"]
        rows.append([f"`{case}`", str(len(layers)), *cells, *ends])
    return _table(["case", "layers", *_headings(tokens), "all", "least"], rows)


def _points(results: Results, cell: Callable[[Point], str]) -> str:
    """Every point: a row for each layer and case, a column for each number of tokens."""
    tokens = sorted(ordered(results.points, "m"))
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for point in results.points:
        rows.setdefault((point["layer"], point["case"]), {})[point["m"]] = cell(point)
    cells = [[*key, *(row.get(count, _NONE) for count in tokens)] for key, row in rows.items()]
    return _table(["layer", "case", *_headings(tokens)], cells)


def _vllm_cell(point: Point) -> str:
    return f"{point['us']} ({point['faster']:.2f})"


def _humming_cell(point: Point) -> str:
    sides = point["sides"]
    names = ("ours", "indexed", "grouped", *(["torch"] if "torch" in sides else []))
    return " / ".join(f"{sides[name]['us']:g}" for name in names)


def _compile_row(name: str, points: Sequence[Point]) -> list[str]:
    each = {key: seconds_per_kernel(points, key) for key in ("seconds", "peer_seconds")}
    size = {key: seconds_per_kernel(points, key) for key in ("bytes", "peer_bytes")}
    return [
        name,
        str(kernels_of(points)),
        *(f"{value:.3f}" for value in each.values()),
        f"{each['seconds'] / each['peer_seconds']:.2f}",
        *(f"{value:,.0f}" for value in size.values()),
        f"{size['bytes'] / size['peer_bytes']:.2f}",
    ]


def _compiles(results: Results) -> str:
    rows = [_compile_row(f"`{point['file']}`", [point]) for point in results.points]
    headings = ["file", "kernels", "s each", "vLLM", "", "bytes each", "vLLM", ""]
    return _table(headings, [*rows, _compile_row("all", results.points)])


def all_tables(vllm: Results, humming: Results, compiles: Results) -> Mapping[str, str]:
    """Returns every table's text by its name."""
    return {
        "vllm-means": _means(vllm, vllm_over_ours),
        "vllm-points": _points(vllm, _vllm_cell),
        "humming-means": _means(humming, humming_over_ours),
        "humming-points": _points(humming, _humming_cell),
        "compile": _compiles(compiles),
    } | {
        f"{name}-source": f"{results.source}.\n"
        for name, results in (("vllm", vllm), ("humming", humming), ("compile", compiles))
    }


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """Returns a document with the tables that it names put in.

    Raises:
      TableError: there is no table of a name.
    """

    def fill(match: re.Match[str]) -> str:
        if match[2] not in tables:
            raise TableError(f"no table is called {match[2]}; there are {', '.join(tables)}")
        return f"{match[1]}\n{tables[match[2]]}\n{match[3]}"

    return _TABLE.sub(fill, text)
