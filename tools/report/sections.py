"""The sections of the report; one without data is a sentence that says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import figures
from kernels import Kernel, SourceFile, count_by_scheme
from page import Section, Table
from resources import KernelUsage
from roofline import Benchmark
from timeline import Bar

_NO_MANIFEST = "No manifest: give --cuda_archs to build the kernels, or --manifest."
_NO_LOG = "No execution log: give --cuda_archs to build the kernels, or --log."
_NO_OBJECTS = "No objects: give --cuda_archs to build the kernels, or --objects with --manifest."


@dataclass(frozen=True)
class Data:
    """All that the report shows; None is what was not given."""

    target: str
    kernels: Sequence[Kernel] | None
    files: Sequence[SourceFile]
    caches: Sequence[str]
    targets_in_log: Sequence[str]
    usages: Sequence[KernelUsage] | None
    bars: Sequence[Bar] | None
    benchmark: Benchmark | None


def summary(data: Data) -> str:
    """A sentence of the most important figures."""
    parts = [data.target]
    if data.kernels is not None:
        parts.append(f"{len(data.kernels)} kernels")
    if data.files:
        parts.append(f"{len(data.files)} files")
    seconds = [file.seconds for file in data.files if file.seconds is not None]
    if seconds:
        parts.append(f"{sum(seconds):.1f} s in {len(seconds)} compiles")
    sizes = [file.size for file in data.files if file.size is not None]
    if sizes:
        parts.append(f"{_kib(sum(sizes))} KiB of objects")
    return ", ".join(parts) + "."


def sections(data: Data) -> list[Section]:
    """Returns all sections, in the page's order."""
    return [
        _schemes(data),
        _compile_seconds(data),
        _object_bytes(data),
        *_resources(data),
        _timeline(data),
        _roofline(data),
    ]


def _schemes(data: Data) -> Section:
    title = "Kernels by scheme"
    if not data.kernels:
        return Section("schemes", title, missing=_NO_MANIFEST)
    figure = figures.scheme_bars(count_by_scheme(data.kernels))
    return Section("schemes", title, figure=figure)


def _compile_seconds(data: Data) -> Section:
    title = "Compile seconds"
    known = sum(file.seconds is not None for file in data.files)
    table = _file_table(data.files) if data.files else None
    if not known:
        return Section("seconds", title, missing=_why_no_seconds(data), table=table)
    text = (
        f"Wall-clock seconds of {known} of {len(data.files)} files. Those of a kernel are its "
        "share of its file by the cost that the generator reckons with, not measured."
    )
    figure = figures.treemap(data.files, lambda file: file.seconds, "s")
    return Section("seconds", title, text, figure, table)


def _why_no_seconds(data: Data) -> str:
    if data.bars is None:
        return _NO_LOG
    if data.caches:
        answers = ", ".join(data.caches)
        return (
            f"A cache answered every compile of {data.target} in the log ({answers}): none ran, so "
            "there are no seconds. For these, build with a new --output_base and an "
            "empty cache or none (--disk_cache= --noremote_accept_cached), write the log with "
            "--execution_log_json_file=FILE, and give --log=FILE."
        )
    if data.targets_in_log:
        others = ", ".join(data.targets_in_log)
        return (
            f"The log has compiles of these targets, none of which ran for {data.target}: {others}."
        )
    return (
        "The build in the log compiled no kernels: they were up to date. --output_base=NEW_FOLDER "
        "builds them anew."
    )


def _object_bytes(data: Data) -> Section:
    title = "Bytes of objects"
    if not any(file.size for file in data.files):
        return Section("bytes", title, missing=_NO_OBJECTS)
    text = "Sizes of object files. That of a kernel is its share of its file by cost, not measured."
    figure = figures.treemap(data.files, lambda file: file.size and file.size / 1024, "KiB")
    return Section("bytes", title, text, figure)


def _resources(data: Data) -> Iterator[Section]:
    registers, shared, spills = "Registers", "Shared memory", "Spills"
    if not data.usages:
        missing = _NO_OBJECTS
        if data.usages is not None:
            missing = "The objects hold none of the manifest's kernels."
        yield Section("registers", registers, missing=missing)
        yield Section("shared", shared, missing=missing)
        yield Section("spills", spills, missing=missing)
        return
    text = f"{len(data.usages)} compiled kernels, one for each kernel and cubin."
    kernels = len({usage.kernel for usage in data.usages})
    if data.kernels is not None and kernels != len(data.kernels):
        text += f" {len(data.kernels) - kernels} kernels of the manifest were not found in objects."
    histogram = figures.register_histogram(data.usages)
    yield Section("registers", registers, text, histogram, _usage_table(data.usages))
    yield Section(
        "shared", shared, _what_is_shared(data.usages), figures.occupancy_scatter(data.usages)
    )
    yield _spills(spills, data.usages)


def _what_is_shared(usages: Sequence[KernelUsage]) -> str:
    """Says what the plot of shared memory shows, and why it does not show the rest."""
    foreign = sum(usage.foreign for usage in usages)
    if foreign:
        return (
            f"{foreign} of {len(usages)} compiled kernels are not of this repository's template: "
            "what they need of dynamic shared memory is not known, and static is shown alone."
        )
    if any(usage.dynamic_shared is None for usage in usages):
        return "Static shared memory alone: the dynamic part is not known."
    return (
        "What cuobjdump says is static, and the dynamic part as this repository's kernels need it."
    )


def _spills(title: str, usages: Sequence[KernelUsage]) -> Section:
    spilling = [usage for usage in usages if usage.usage.spills]
    if not spilling:
        text = f"None of {len(usages)} compiled kernels has a stack or local memory."
        return Section("spills", title, text)
    text = f"{len(spilling)} of {len(usages)} compiled kernels have a stack or local memory."
    return Section("spills", title, text, table=_usage_table(spilling))


def _timeline(data: Data) -> Section:
    title = "Build timeline"
    if not data.bars:
        missing = _NO_LOG
        if data.bars is not None:
            missing = "The log has no process that ran, or does not tell when."
        return Section("timeline", title, missing=missing)
    workers = max(bar.worker for bar in data.bars)
    text = (
        f"{len(data.bars)} processes. A log does not name workers: these are the fewest that could "
        f"have run them, {workers}."
    )
    return Section("timeline", title, text, figures.timeline_bars(data.bars))


def _roofline(data: Data) -> Section:
    title = "Roofline"
    if data.benchmark is None:
        missing = "No benchmark: give --bench with what tests/gpu/bench_moe_gemm.py --out wrote."
        return Section("roofline", title, missing=missing)
    if not data.benchmark.points:
        return Section("roofline", title, missing="The benchmark has no measurements.")
    text = f"{data.benchmark.device}, {len(data.benchmark.points)} measurements."
    faster = [
        point.peer_microseconds / point.microseconds
        for point in data.benchmark.points
        if point.peer_microseconds is not None
    ]
    if faster:
        wins = sum(ratio >= 1 for ratio in faster)
        text += f" {wins} of {len(faster)} that have a peer's time are no slower than the peer."
    return Section("roofline", title, text, figures.roofline_plot(data.benchmark))


def _file_table(files: Sequence[SourceFile]) -> Table:
    headings = ("file", "family", "kernels", "seconds", "seconds a kernel", "KiB")
    rows = [
        (
            file.name,
            file.family,
            str(len(file.kernels)) if file.kernels else "",
            "" if file.seconds is None else f"{file.seconds:.2f}",
            _per_kernel(file),
            "" if file.size is None else _kib(file.size),
        )
        for file in sorted(files, key=lambda file: -(file.seconds or 0))
    ]
    return Table(headings, rows, first_number=2)


def _per_kernel(file: SourceFile) -> str:
    if file.seconds is None or not file.kernels:
        return ""
    return f"{file.seconds / len(file.kernels):.2f}"


def _usage_table(usages: Sequence[KernelUsage]) -> Table:
    headings = (
        "file|tile, rows x n x k|arch|schemes|registers|stack|local|static shared|dynamic shared"
    ).split("|")
    rows = [
        (
            usage.kernel.file,
            usage.kernel.label,
            usage.arch,
            ", ".join(usage.kernel.schemes),
            str(usage.usage.registers),
            str(usage.usage.stack),
            str(usage.usage.local),
            str(usage.usage.static_shared),
            "" if usage.dynamic_shared is None else str(usage.dynamic_shared),
        )
        for usage in usages
    ]
    return Table(headings, rows, first_number=4)


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}"
