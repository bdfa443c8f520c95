"""The charts and tables of the docs are what docs/benchmarks/*.json say."""

from __future__ import annotations

import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import charts
import matplotlib
import pytest
import results
import tables
from matplotlib import font_manager

README = Path(os.environ["README"])
DOCS = README.parent / "docs"
SVG = "{http://www.w3.org/2000/svg}"
REPAIR = "repair: ./bazelw run //tools/charts"
MADE = charts.made(DOCS)
CHARTS = [path for path in MADE if path.suffix == ".svg"]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A copy of the docs, to change."""
    return Path(shutil.copytree(DOCS, tmp_path / "docs"))


@pytest.mark.parametrize("path", MADE, ids=lambda path: str(path.relative_to(DOCS)))
def test_charts_and_tables_are_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == MADE[path], f"{path} is of other results; {REPAIR}"


def test_no_other_list_of_fonts_changes_a_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [])
    manager.addfont(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSansMono.ttf"))
    assert charts.made(DOCS) == MADE


def test_there_is_no_chart_that_nothing_draws() -> None:
    assert sorted((DOCS / "charts").iterdir()) == sorted(CHARTS)
    shown = "".join(path.read_text(encoding="utf-8") for path in [README, *MADE])
    assert [path.name for path in CHARTS if f"charts/{path.name}" not in shown] == []


@pytest.mark.parametrize("path", CHARTS, ids=lambda path: path.name)
def test_a_chart_is_whole_and_asks_for_nothing(path: Path) -> None:
    chart = ElementTree.fromstring(MADE[path])
    texts = ["".join(element.itertext()) for element in chart.iter(f"{SVG}text")]
    assert "this project" in texts
    assert any("H100" in text or "Xeon" in text for text in texts), "no machine is named"
    links = re.findall(r'href="([^"]*)"|url\(([^)]*)\)', MADE[path])
    assert [link for link in links if not "".join(link).startswith("#")] == []


def test_light_and_dark_charts_differ_in_colours_alone() -> None:
    for light in (path for path in CHARTS if path.stem.endswith("-light")):
        dark = light.with_name(light.name.replace("-light", "-dark"))
        plain = [re.sub(r"#[0-9a-f]{6}", "", MADE[path]) for path in (light, dark)]
        # Identifiers are hashes of what they name, colours included.
        plain = [re.sub(r"\b[mp][0-9a-f]{10}\b", "", text) for text in plain]
        assert plain[0] == plain[1] and MADE[light] != MADE[dark]


def test_means_are_those_of_the_points() -> None:
    """Against figures that the benchmarks printed, or that were worked out by hand."""
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    points = json.loads((DOCS / "benchmarks" / results.HUMMING_GEMM).read_text())["points"]
    product, layers = 1.0, 0
    for point in (p for p in points if p["case"] == "bf16_u4b8_g128" and p["m"] == 4096):
        sides = point["sides"]
        best = min(sides["indexed"]["us"], sides["grouped"]["us"])
        product *= best / sides["ours"]["us"]
        layers += 1
    table = r"<!-- table: humming-means -->\s*(\|.*?)\n.*?(\| `bf16_u4b8_g128` .*?)\n"
    rows = re.search(table, text, re.DOTALL)
    assert rows and layers > 1
    column = [cell.strip() for cell in rows[1].split("|")].index("4,096")
    assert rows[2].split("|")[column].strip() == f"{product ** (1 / layers):.2f}"


def test_points_that_were_not_timed_leave_their_cells_empty() -> None:
    timed = {"ours": {"us": 2.0}, "indexed": {"us": 3.0}, "grouped": {"us": 4.0}}
    points = [
        {"layer": "mixtral_gate_up", "case": case, "m": m, "sides": timed}
        for case, tokens in (("bf16_fp8_ch", (256,)), ("bf16_u4b8_g128", (1, 256)))
        for m in tokens
    ]
    vllm, compiled = (
        results.read(DOCS / "benchmarks" / name)
        for name in (results.VLLM_GEMM, results.VLLM_COMPILE)
    )
    humming = results.Results("2026-01-01", {"a": "b"}, {"device": "c"}, points)
    found = tables.all_tables(vllm, humming, compiled)
    assert "| `bf16_fp8_ch` | 1 | - | 1.50 | 1.50 | 1.50 |" in found["humming-means"]
    assert "| mixtral_gate_up | bf16_fp8_ch | - | 2 / 3 / 4 |" in found["humming-points"]


def gemm_vllm() -> dict[str, Any]:
    """What tests/gpu/compare_with_vllm.py writes, of two layers."""
    points = [
        {
            "layer": layer,
            "case": case,
            "m": m,
            "us": 10.04,
            "peer_us": 20.08,
            "faster": 2.0,
            "sets": 3,
        }
        for layer in ("mixtral_gate_up", "qwen3_gate_up")
        for case in ("bf16_u4b8_g128", "bf16_mxfp4_g32", "bf16_fp8_ch")
        for m in (1, 4096)
    ]
    return {"machine": {"device": "H999"}, "points": points, "failures": []}


def take(docs: Path, content: Any, *options: str) -> int:
    file = docs / "new.json"
    file.write_text(json.dumps(content))
    return charts.main(
        [f"--docs={docs}", f"--take={file}", "--versions", "marlin_moe_kernels=abc", *options]
    )


def test_new_results_take_the_place_of_the_old_ones(docs: Path) -> None:
    others = {p: p.read_bytes() for p in docs.rglob("*") if p.is_file()}
    assert take(docs, gemm_vllm(), "vLLM=9", "--date=2026-12-01") == 0
    written = results.read(docs / "benchmarks" / results.VLLM_GEMM)
    assert (written.date, written.versions["vLLM"], written.machine["device"]) == (
        "2026-12-01",
        "9",
        "H999",
    )
    assert written.points[0] == {
        "layer": "mixtral_gate_up",
        "case": "bf16_u4b8_g128",
        "m": 1,
        "us": 10.0,
        "faster": 2.0,
    }
    page = (docs / "benchmarks.md").read_text()
    assert "H999, 2026-12-01: marlin_moe_kernels abc, vLLM 9." in page
    assert "| `bf16_u4b8_g128` | 2 | 2.00 | 2.00 | 2.00 | 2.00 |" in page
    changed = {p.relative_to(docs).as_posix() for p in others if p.read_bytes() != others[p]}
    assert changed == {
        "benchmarks.md",
        "benchmarks/gemm.md",
        "benchmarks/gemm_vllm.json",
        "charts/speed-dark.svg",
        "charts/speed-light.svg",
    }
    before = {p: p.read_bytes() for p in docs.rglob("*") if p.is_file()}
    assert charts.main([f"--docs={docs}"]) == 0
    assert {p: p.read_bytes() for p in docs.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], "is not a file of results"),
        ({"points": []}, "it has no points"),
        ({"points": [{"layer": "a", "m": 1}]}, "a benchmark's has one of faster, sides"),
        ({"points": [{"faster": 2.0}]}, "does not say on which device"),
        ({"machine": {"device": "H"}, "points": [{"faster": 2.0}]}, "gemm_vllm.json lacks 'layer'"),
        (
            {
                "machine": {"device": "H"},
                "points": [{"layer": "a", "case": "b", "m": 1, "sides": {"ours": {"us": 1.0}}}],
            },
            "gemm_humming.json lacks 'sides: ours, indexed and grouped'",
        ),
        (
            {**gemm_vllm(), "points": gemm_vllm()["points"][:2]},
            "needs a layer that both peers have for bf16_mxfp4_g32",
        ),
    ],
)
def test_results_of_another_kind_are_refused(
    docs: Path, capsys: pytest.CaptureFixture[str], content: Any, said: str
) -> None:
    before = {p: p.read_bytes() for p in docs.rglob("*") if p.is_file()}
    assert take(docs, content) == 1
    assert said in capsys.readouterr().err
    (docs / "new.json").unlink()
    assert {p: p.read_bytes() for p in docs.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "options", [["--take=x.json"], ["--versions", "a=1"], ["--date=1.12.2026"]]
)
def test_options_that_lack_something_are_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit):
        charts.main(options)


def test_a_table_that_there_is_not_is_named(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (docs / "new.md").write_text("<!-- table: typo -->\n<!-- end of table -->\n")
    assert charts.main([f"--docs={docs}"]) == 1
    assert "no table is called typo; there are vllm-means" in capsys.readouterr().err
