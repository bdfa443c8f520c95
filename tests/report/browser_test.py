"""Chromium draws the page's plots, and asks the network for nothing."""

from __future__ import annotations

from pathlib import Path

import report
from browser_check import find_chromium, open_page, problems


def test_every_plot_is_drawn(tmp_path: Path, inputs: dict[str, Path]) -> None:
    page = tmp_path / "page.html"
    named = [f"--{name}={path}" for name, path in inputs.items()]
    assert report.main([*named, f"--out={page}"]) == 0
    opened = open_page(find_chromium(None), page)
    assert problems(opened, plots=5) == []
    texts = {plot.id: plot.texts for plot in opened.plots}
    assert "mxfp4" in texts["plot-schemes"]
    assert "CudaCompile" in texts["plot-timeline"]


def test_page_with_an_empty_plot_and_a_request_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<div id="plot-a"></div><img src="http://example.invalid/a.png">', encoding="utf-8"
    )
    found = problems(open_page(find_chromium(None), page), plots=2)
    assert "plot-a is not drawn" in found
    assert any("example.invalid" in problem for problem in found)
    assert "1 plots, not 2" in found
