"""Opens a report in headless Chromium and checks that its plots are there.

    apt-get install chromium-headless-shell
    browser_check.py REPORT.html [--chromium PROGRAM] [--plots N]

The page must draw every plot that it declares, with no message on the console and no request but
for the page itself. The exit code is 0 if that holds.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_NAMES = ("chromium-headless-shell", "chromium", "google-chrome")
_CONSOLE = re.compile(r"INFO:CONSOLE[:(]\d+\)?\] (.*)")
_SCHEMES = ("http:", "https:", "ws:", "wss:", "ftp:", "file:")
# Elements that hold something drawn, by the class that Plotly gives them.
_MARKS = ("point", "points", "slice", "lines")


@dataclass
class Plot:
    """What is in a plot's element: titles and legend as text, and how many marks are drawn."""

    id: str
    drawn: bool = False
    marks: int = 0
    texts: list[str] = field(default_factory=list)


class _PlotFinder(HTMLParser):
    """Collects the plots of a page after its scripts have run."""

    def __init__(self) -> None:
        super().__init__()
        self.plots: list[Plot] = []
        self.declared: list[str] = []
        self._depth = 0
        self._inside = False
        self._in_text = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        name = attributes.get("id") or ""
        if tag == "div" and name.startswith("plot-"):
            self.declared.append(name)
            self.plots.append(Plot(name, drawn="js-plotly-plot" in classes))
            self._inside, self._depth = True, 0
        if self._inside:
            self._depth += tag == "div"
            self._in_text = tag in ("text", "tspan")
            self.plots[-1].marks += any(mark in classes for mark in _MARKS)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == "div":
            self._depth -= 1
            self._inside = self._depth > 0

    def handle_data(self, data: str) -> None:
        if self._inside and self._in_text and data.strip():
            self.plots[-1].texts.append(data.strip())


@dataclass(frozen=True)
class Opened:
    """What Chromium made of a page."""

    plots: Sequence[Plot]
    console: Sequence[str]
    requests: Sequence[str]


def find_chromium(given: str | None) -> str:
    """Returns the program to use; ends this one if there is none."""
    for name in (given,) if given else _NAMES:
        if found := shutil.which(name):
            return found
    sys.exit(
        f"browser_check: {given or ' or '.join(_NAMES)} is not on PATH; "
        "apt-get install chromium-headless-shell"
    )


def open_page(chromium: str, page: Path) -> Opened:
    """Runs a page's scripts to the end.

    Raises:
      subprocess.CalledProcessError: Chromium fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        net_log = Path(scratch) / "net.json"
        # Its own sandbox needs rights that containers lack; the page may not reach anything anyhow.
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--window-size=1280,2000"]
        command += [f"--user-data-dir={scratch}/profile", "--virtual-time-budget=20000"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"]
        command += [f"--log-net-log={net_log}", "--hide-scrollbars", "--dump-dom"]
        result = subprocess.run(
            [*command, page.resolve().as_uri()],
            check=True,
            capture_output=True,
            text=True,
            timeout=180,
        )
        finder = _PlotFinder()
        finder.feed(result.stdout)
        requests = requested(json.loads(net_log.read_text(encoding="utf-8")), page)
        return Opened(finder.plots, _CONSOLE.findall(result.stderr), requests)


def requested(net_log: dict[str, list[dict[str, object]]], page: Path) -> list[str]:
    """Returns the addresses that a log of Chromium's network names, but for the page itself."""
    addresses = set()
    for event in net_log["events"]:
        parameters = event.get("params")
        if isinstance(parameters, dict):
            addresses.add(str(parameters.get("url", "")))
    addresses.discard(page.resolve().as_uri())
    return sorted(address for address in addresses if address.startswith(_SCHEMES))


def problems(opened: Opened, plots: int | None) -> list[str]:
    """Returns what is wrong with a page that has been opened."""
    found = [f"console: {message}" for message in opened.console]
    found += [f"request: {address}" for address in opened.requests]
    for plot in opened.plots:
        if not plot.drawn:
            found.append(f"{plot.id} is not drawn")
        elif not plot.marks:
            found.append(f"{plot.id} is empty")
    if not opened.plots or (plots is not None and len(opened.plots) != plots):
        found.append(f"{len(opened.plots)} plots, not {plots or 'at least one'}")
    return found


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--chromium", help=f"default: {' or '.join(_NAMES)} on PATH")
    parser.add_argument("--plots", type=int, help="how many plots the page must have")
    options = parser.parse_args()
    opened = open_page(find_chromium(options.chromium), options.page)
    for plot in opened.plots:
        print(f"{plot.id}: {plot.marks} marks, texts: {', '.join(plot.texts[:12])}")
    wrong = problems(opened, options.plots)
    print("\n".join(wrong) or f"{len(opened.plots)} plots are drawn, nothing was requested")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
