"""Puts the report's sections together and writes the page, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

_CONFIG = {"displaylogo": False, "responsive": True}


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; columns from `first_number` on are numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    first_number: int

    def numeric(self, column: int) -> bool:
        """Whether a column, counted from 0, holds numbers."""
        return column >= self.first_number


@dataclass(frozen=True)
class Section:
    """A part of the page; `missing` says what would be here and how to get it."""

    id: str
    title: str
    text: str = ""
    figure: go.Figure | None = None
    table: Table | None = None
    missing: str = ""

    @property
    def plot(self) -> Markup | None:
        """The figure as HTML, without the library."""
        if self.figure is None:
            return None
        html = self.figure.to_html(
            full_html=False, include_plotlyjs=False, div_id=f"plot-{self.id}", config=_CONFIG
        )
        return Markup(html)


def render(title: str, summary: str, sections: Sequence[Section]) -> str:
    """Returns the page; equal sections give equal pages."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html.jinja").render(
        title=title,
        summary=summary,
        sections=sections,
        has_plots=any(section.figure is not None for section in sections),
        plotly_js=Markup(get_plotlyjs()),
    )


def write_whole(path: Path, text: str) -> None:
    """Writes a file, or leaves what was there.

    Raises:
      OSError: the folder is not there or cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
