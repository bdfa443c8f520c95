"""Draws the charts of README.md and docs/benchmarks.md as SVG.

Each chart is drawn twice, for light and for dark pages. Equal results give equal bytes: identifiers
are salted, no date is written, and two fonts that come with Matplotlib measure the text, whatever
fonts its cache of this machine lists.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from results import (
    Point,
    Results,
    ResultsError,
    humming_over_ours,
    means_by_tokens,
    ordered,
    vllm_over_ours,
)

CASES = {
    "bf16_u4b8_g128": "bf16 × int4",
    "fp16_u4awq_g128": "f16 × int4 with zero points",
    "bf16_mxfp4_g32": "bf16 × MXFP4",
    "bf16_fp8_ch": "bf16 × FP8",
    "bf16_fp8_g128": "bf16 × FP8, groups of 128",
    "e4m3_u4b8_g128": "FP8 × int4",
    "s8_u4b8_g128": "int8 × int4",
}
# Cases of the first chart: those that both comparisons have.
_SPEED_CASES = ("bf16_u4b8_g128", "bf16_mxfp4_g32", "bf16_fp8_ch")
LAYERS = {
    "mixtral_gate_up": "Mixtral 8x7B, gate and up",
    "mixtral_down": "Mixtral 8x7B, down",
    "qwen3_gate_up": "Qwen3-30B-A3B, gate and up",
    "qwen3_down": "Qwen3-30B-A3B, down",
    "dsv3_gate_up": "DeepSeek-V3, gate and up",
    "dsv3_down": "DeepSeek-V3, down",
}
_FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
_OURS, _MARLIN, _HUMMING = "this project", "Marlin (vLLM)", "Humming"


@dataclass(frozen=True)
class Theme:
    """Colours of a chart."""

    name: str
    page: str
    text: str
    faint: str
    grid: str
    ours: str
    marlin: str
    humming: str
    other: str


THEMES = (
    Theme(
        "light",
        "#ffffff",
        "#1f2328",
        "#59636e",
        "#d1d9e0",
        "#0969da",
        "#bc4c00",
        "#1a7f37",
        "#8250df",
    ),
    Theme(
        "dark",
        "#0d1117",
        "#f0f6fc",
        "#9198a1",
        "#3d444d",
        "#4493f8",
        "#f0883e",
        "#3fb950",
        "#ab7df8",
    ),
)


@contextmanager
def _settings(theme: Theme) -> Iterator[None]:
    """Makes what Matplotlib draws meanwhile depend on the theme alone."""
    manager = font_manager.fontManager
    fonts_before = manager.ttflist
    settings = {
        "svg.hashsalt": "marlin_moe_kernels",
        "svg.fonttype": "none",
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "figure.facecolor": theme.page,
        "axes.facecolor": theme.page,
        "text.color": theme.text,
        "axes.labelcolor": theme.text,
        "axes.titlecolor": theme.text,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "axes.edgecolor": theme.grid,
        "grid.color": theme.grid,
        "grid.linewidth": 0.6,
    }
    try:
        manager.ttflist = []
        for name in _FONTS:
            manager.addfont(Path(matplotlib.get_data_path(), "fonts/ttf", name))
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings}):
            yield
    finally:
        manager.ttflist = fonts_before


def _svg(figure: Any, description: str) -> str:
    """Returns a figure as SVG, with a description for those who cannot see it."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Title": description}
    figure.savefig(buffer, format="svg", metadata=metadata)
    # Matplotlib leaves blanks at the ends of lines.
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _tokens_axis(axes: Any, tokens: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(tokens))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.tick_params(length=0)
    axes.grid(axis="y")


def _common_layers(first: Sequence[Point], second: Sequence[Point], case: str) -> list[str]:
    """Returns the layers that both have for a case.

    Raises:
      ResultsError: there is none.
    """
    others = ordered([p for p in second if p["case"] == case], "layer")
    layers = ordered([p for p in first if p["case"] == case], "layer")
    common = [layer for layer in layers if layer in others]
    if not common:
        raise ResultsError(f"the chart of speed needs a layer that both peers have for {case}")
    return common


def speed(vllm: Results, humming: Results, theme: Theme) -> str:
    """Draws how fast Marlin and Humming are, with this project as 1, over the tokens."""
    lines = (
        (_MARLIN, theme.marlin, "s", vllm.points, vllm_over_ours),
        (_HUMMING, theme.humming, "^", humming.points, humming_over_ours),
    )
    with _settings(theme):
        figure = Figure(figsize=(8.6, 3.5))
        panels = figure.subplots(1, len(_SPEED_CASES), sharey=True)
        figure.subplots_adjust(left=0.07, right=0.985, top=0.78, bottom=0.2, wspace=0.08)
        for axes, case in zip(panels, _SPEED_CASES, strict=True):
            layers = _common_layers(vllm.points, humming.points, case)
            tokens: list[int] = []
            for name, colour, marker, points, ratio in lines:
                means = means_by_tokens(points, ratio, case, layers)
                tokens = list(means)
                speeds = [1 / mean for mean in means.values()]
                axes.plot(tokens, speeds, marker=marker, ms=4.5, lw=1.6, c=colour, label=name)
            axes.plot(tokens, [1] * len(tokens), lw=2.4, c=theme.ours, label=_OURS)
            _tokens_axis(axes, tokens)
            axes.set_title(f"{CASES[case]}, {len(layers)} layers")
            axes.set_xlabel("tokens", color=theme.faint)
        panels[0].set_yscale("log", base=2)
        panels[0].set_ylim(bottom=min(0.65, panels[0].get_ylim()[0]))
        panels[0].yaxis.set_major_locator(FixedLocator([0.5, 0.7, 1, 1.4, 2, 2.8, 4]))
        panels[0].yaxis.set_minor_locator(NullLocator())
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}×"))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="upper right", ncols=3)
        figure.text(0.012, 0.945, "Speed of a MoE GEMM, this project = 1", weight="bold", size=11)
        figure.text(0.012, 0.89, "higher is faster", color=theme.faint)
        figure.text(0.012, 0.055, vllm.source, color=theme.faint, size=7.5)
        figure.text(0.012, 0.02, humming.source, color=theme.faint, size=7.5)
        return _svg(figure, "Speed of a MoE GEMM relative to this project, over tokens")


def layers(humming: Results, theme: Theme) -> str:
    """Draws microseconds of six layers over the tokens: ours, Humming's, PyTorch's."""
    case = "bf16_u4b8_g128"
    points = [p for p in humming.points if p["case"] == case]
    lines = (
        ("torch", "PyTorch, bf16 weights", theme.marlin, "s"),
        ("grouped", "Humming, rows permuted before", theme.other, "v"),
        ("indexed", "Humming, rows gathered", theme.humming, "^"),
        ("ours", _OURS, theme.ours, "o"),
    )
    names = ordered(points, "layer")
    with _settings(theme):
        figure = Figure(figsize=(8.6, 5.4))
        panels = figure.subplots(2, (len(names) + 1) // 2, sharex=True).T.flatten()
        figure.subplots_adjust(left=0.06, right=0.985, top=0.84, bottom=0.12, wspace=0.2)
        for axes, name in zip(panels, names, strict=False):
            here = [p for p in points if p["layer"] == name]
            for side, label, colour, marker in lines:
                timed = {p["m"]: p["sides"][side]["us"] for p in here if side in p["sides"]}
                axes.plot(
                    list(timed),
                    list(timed.values()),
                    marker=marker,
                    ms=4,
                    lw=1.5,
                    c=colour,
                    label=label,
                )
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            _tokens_axis(axes, ordered(here, "m"))
            axes.set_title(LAYERS.get(name, name))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(0, 0.945), ncols=4
        )
        title = f"Microseconds of one MoE GEMM over tokens, {CASES[case]}, groups of 128"
        figure.text(0.012, 0.96, title, weight="bold", size=11)
        figure.text(0.012, 0.02, humming.source, color=theme.faint, size=7.5)
        return _svg(figure, title)


def weights_and_activations(file: str) -> str:
    """Returns what a kernel file multiplies, in words, by the types in its name."""
    _, _, a_type, b_type, _ = file.split("_")
    activations = {"s8": "int8", "fe4m3fn": "FP8"}.get(a_type, "16-bit")
    weights = {
        "u4": "int4, zero points",
        "u4b8": "int4",
        "u8b128": "int8",
        "fe4m3fn": "FP8",
        "fe2m1f": "FP4",
    }[b_type]
    return f"{activations} × {weights}"


def compile_seconds(vllm: Results, theme: Theme) -> str:
    """Draws the CPU seconds that a kernel takes to compile, by what it multiplies."""
    groups = {"all": list(vllm.points)}
    for point in vllm.points:
        groups.setdefault(weights_and_activations(point["file"]), []).append(point)
    with _settings(theme):
        height = 0.36 * len(groups) + 1.0
        figure = Figure(figsize=(8.6, height))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.24, right=0.985, top=1 - 0.62 / height, bottom=0.3 / height)
        for side, key, colour, offset in (
            (_OURS, "seconds", theme.ours, -0.2),
            (_MARLIN, "peer_seconds", theme.marlin, 0.2),
        ):
            values = [seconds_per_kernel(points, key) for points in groups.values()]
            places = [row + offset for row in range(len(groups))]
            axes.barh(places, values, height=0.36, color=colour, label=side)
            for place, value in zip(places, values, strict=True):
                axes.text(value + 0.01, place, f"{value:.2f}", va="center", size=8)
        axes.set_yticks(
            range(len(groups)),
            [f"{g} ({kernels_of(p)})" for g, p in groups.items()],
            color=theme.text,
        )
        axes.invert_yaxis()
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(NullLocator())
        figure.legend(loc="upper right", ncols=2)
        title = "CPU seconds to compile one kernel"
        figure.text(0.012, 1 - 0.25 / height, title, weight="bold", size=11)
        under = "activations × weights (number of kernels); lower is better"
        figure.text(0.012, 1 - 0.46 / height, under, color=theme.faint)
        figure.text(0.012, 0.1 / height, vllm.source, color=theme.faint, size=7.5)
        return _svg(figure, f"{title}, this project beside vLLM")


def kernels_of(points: Sequence[Point]) -> int:
    """Returns the number of kernels of some files."""
    return sum(point["kernels"] for point in points)


def seconds_per_kernel(points: Sequence[Point], key: str) -> float:
    """Returns the mean over the kernels of some files."""
    return float(sum(p[key] * p["kernels"] for p in points)) / kernels_of(points)


def all_charts(vllm: Results, humming: Results, compiles: Results) -> Mapping[str, str]:
    """Returns every chart's text by its file name."""
    charts = {}
    for theme in THEMES:
        charts[f"speed-{theme.name}.svg"] = speed(vllm, humming, theme)
        charts[f"layers-{theme.name}.svg"] = layers(humming, theme)
        charts[f"compile-{theme.name}.svg"] = compile_seconds(compiles, theme)
    return charts
