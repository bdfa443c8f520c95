"""The report's plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go
from kernels import SourceFile
from resources import KernelUsage
from roofline import Benchmark
from timeline import Bar

_MARGIN = {"l": 70, "r": 20, "t": 30, "b": 60}
_COLOURS = (
    "#3366aa",
    "#ee7733",
    "#009988",
    "#cc3377",
    "#998800",
    "#7755bb",
    "#33aadd",
    "#886644",
)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "x")


def scheme_bars(counts: Mapping[str, Mapping[str, int]]) -> go.Figure:
    """Kernels of each scheme, stacked by family."""
    schemes = list(dict.fromkeys(scheme for family in counts.values() for scheme in family))
    figure = _figure(420)
    for number, (family, by_scheme) in enumerate(counts.items()):
        figure.add_bar(
            name=family,
            x=schemes,
            y=[by_scheme.get(scheme, 0) for scheme in schemes],
            marker_color=_colour(number),
        )
    figure.update_layout(barmode="stack", showlegend=True)
    figure.update_yaxes(title="kernels")
    return figure


def treemap(
    files: Sequence[SourceFile], measure: Callable[[SourceFile], float | None], unit: str
) -> go.Figure:
    """Families, their files, and the files' kernels by their share, each as large as a measure."""
    nodes: list[tuple[str, str, str, float]] = []
    families: dict[str, float] = {}
    for file in files:
        value = measure(file)
        if not value:
            continue
        families[file.family] = families.get(file.family, 0.0) + value
        nodes.append((f"{file.family}/{file.name}", file.family, file.name, value))
        for kernel in file.kernels:
            share = value * file.share(kernel)
            name = f"{file.name}/{len(nodes)}"
            nodes.append((name, f"{file.family}/{file.name}", kernel.label, share))
    top = [(family, "", family, value) for family, value in families.items()]
    ids, parents, labels, values = zip(*(top + nodes), strict=True)
    figure = _figure(620)
    # Sums of shares may exceed the whole by a rounding error, which "total" would not draw.
    figure.add_treemap(
        ids=ids,
        parents=parents,
        labels=labels,
        values=_rounded_up(ids, parents, values),
        branchvalues="total",
        maxdepth=3,
        tiling={"pad": 2},
        hovertemplate=f"%{{label}}<br>%{{value:,.4~g}} {unit}<extra></extra>",
        texttemplate=f"%{{label}}<br>%{{value:,.4~g}} {unit}",
    )
    figure.update_layout(margin={"l": 5, "r": 5, "t": 30, "b": 5}, treemapcolorway=_COLOURS)
    return figure


def _rounded_up(ids: Sequence[str], parents: Sequence[str], values: Sequence[float]) -> list[float]:
    """Makes each parent's value at least the sum of its children's."""
    sums: dict[str, float] = {}
    for parent, value in zip(parents, values, strict=True):
        sums[parent] = sums.get(parent, 0.0) + value
    return [max(value, sums.get(name, 0.0)) for name, value in zip(ids, values, strict=True)]


def register_histogram(usages: Sequence[KernelUsage]) -> go.Figure:
    """How many kernels need how many registers, stacked by the rows of their tile."""
    figure = _figure(420)
    for number, rows in enumerate(sorted({usage.kernel.rows for usage in usages})):
        figure.add_histogram(
            name=f"{rows} rows",
            x=[usage.usage.registers for usage in usages if usage.kernel.rows == rows],
            xbins={"start": 0, "end": 256, "size": 8},
            marker_color=_colour(number),
        )
    figure.update_layout(barmode="stack", showlegend=True)
    figure.update_xaxes(title="registers of a thread", range=[0, 264])
    figure.update_yaxes(title="kernels")
    return figure


def occupancy_scatter(usages: Sequence[KernelUsage]) -> go.Figure:
    """Registers and shared memory of a block, which limit how many run at a time."""
    figure = _figure(480)
    for number, threads in enumerate(sorted({usage.kernel.threads for usage in usages})):
        chosen = [usage for usage in usages if usage.kernel.threads == threads]
        figure.add_scatter(
            name=f"{threads} threads",
            mode="markers",
            x=[usage.shared / 1024 for usage in chosen],
            y=[usage.usage.registers * threads for usage in chosen],
            text=[_describe(usage) for usage in chosen],
            hovertemplate="%{text}<br>%{x:.4~g} KiB, %{y} registers<extra></extra>",
            marker={"color": _colour(number), "symbol": _SYMBOLS[number % 8], "opacity": 0.6},
        )
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title="shared memory of a block, KiB", rangemode="tozero")
    figure.update_yaxes(title="registers of a block", rangemode="tozero")
    return figure


def timeline_bars(bars: Sequence[Bar]) -> go.Figure:
    """What each worker did when; one trace for each kind of action."""
    workers = max(bar.worker for bar in bars)
    figure = _figure(170 + 26 * min(workers, 40))
    kinds: dict[str, float] = {}
    for bar in bars:
        kinds[bar.mnemonic] = kinds.get(bar.mnemonic, 0.0) + bar.seconds
    for number, kind in enumerate(sorted(kinds, key=lambda kind: (-kinds[kind], kind))):
        chosen = [bar for bar in bars if bar.mnemonic == kind]
        figure.add_bar(
            name=kind,
            orientation="h",
            base=[bar.start for bar in chosen],
            x=[bar.seconds for bar in chosen],
            y=[bar.worker for bar in chosen],
            text=[f"{bar.name} ({bar.runner})" for bar in chosen],
            textposition="none",
            hovertemplate="%{text}<br>from %{base:.2f} s, %{x:.2f} s<extra></extra>",
            marker={"color": _colour(number), "line": {"color": "white", "width": 0.5}},
            width=0.8,
        )
    figure.update_layout(barmode="overlay", showlegend=True, bargap=0)
    figure.update_xaxes(title="seconds from the first start", rangemode="tozero")
    figure.update_yaxes(
        title="worker", range=[workers + 0.5, 0.5], dtick=max(1, workers // 20), tick0=1
    )
    return figure


def roofline_plot(benchmark: Benchmark) -> go.Figure:
    """Speed against operations per byte of weights, below what the device reaches at most."""
    figure = _figure(640)
    for number, (case, points) in enumerate(benchmark.cases().items()):
        figure.add_scatter(
            name=case,
            mode="markers",
            x=[point.intensity for point in points],
            y=[point.tflop_s for point in points],
            text=[_measurement(point.layer, point.m, point.microseconds) for point in points],
            hovertemplate="%{text}<br>%{y:.4~g} TFLOP/s<extra>%{fullData.name}</extra>",
            marker={
                "color": _colour(number),
                "symbol": _SYMBOLS[number % 8],
                "size": 8,
                "opacity": 0.75,
            },
        )
    _add_ceilings(figure, benchmark)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title="operations per byte of weights", type="log")
    figure.update_yaxes(title="TFLOP/s", type="log")
    return figure


def _add_ceilings(figure: go.Figure, benchmark: Benchmark) -> None:
    intensities = [point.intensity for point in benchmark.points]
    low, high = min(intensities) / 1.5, max(intensities) * 1.5
    line = {"color": "#444444"}
    if benchmark.copy_gb_s is not None:
        per_operation = benchmark.copy_gb_s / 1e3
        top = benchmark.matmul_tflop_s
        end = high if top is None else max(low, min(high, top / per_operation))
        figure.add_scatter(
            name=f"memory: {benchmark.copy_gb_s:.0f} GB/s copied",
            mode="lines",
            x=[low, end],
            y=[low * per_operation, end * per_operation],
            line=line | {"dash": "dash"},
        )
    if benchmark.matmul_tflop_s is not None:
        figure.add_scatter(
            name=f"tensor cores: {benchmark.matmul_tflop_s:.0f} TFLOP/s in a dense product",
            mode="lines",
            x=[low, high],
            y=[benchmark.matmul_tflop_s] * 2,
            line=line,
        )


def _measurement(layer: str, m: int, microseconds: float) -> str:
    return f"{layer}, m = {m}: {microseconds:.1f} µs"


def _describe(usage: KernelUsage) -> str:
    return f"{usage.kernel.file}<br>{usage.kernel.label}<br>{usage.arch}"


def _figure(height: int) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin=_MARGIN,
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return figure


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
