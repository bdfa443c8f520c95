"""Writes one HTML page about the kernels: how many, what their compiles took, what they need, how
fast they are.

    bazel run //tools/report -- --cuda_archs=sm_80 --out report.html
    bazel run //tools/report -- --cuda_archs=sm_80 --output_base=NEW_FOLDER --out report.html
    bazel run //tools/report -- --manifest MANIFEST --log LOG --objects FOLDER --out report.html

--cuda_archs builds the kernels first. The page has the seconds of kernels that this build compiled;
to compile all of them, let --output_base name an empty folder. A section without data says how to
get them. The page needs no network.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build import build, full_label
from errors import InputError
from execution_log import LogError, Spawn, read_log
from kernels import (
    Kernel,
    caches,
    compiled_targets,
    compiles,
    object_stem,
    read_manifest,
    source_files,
)
from marlin_gen.tables import load_tables
from page import render, write_whole
from resources import (
    KernelUsage,
    dynamic_shared_memory,
    match_kernels,
    objects_in,
    objects_of,
    read_objects,
    scalar_type_ids,
)
from roofline import read_benchmark
from sections import Data, sections, summary
from timeline import timeline

_SHARED_MEMORY = Path(__file__).parent / "shared_memory"
_TYPE_IDS = Path(__file__).parent / "type_ids"
_DEFAULT_TARGET = "//csrc/marlin_moe:kernels"


@dataclass(frozen=True)
class Inputs:
    """The files that the report is made of."""

    target: str
    manifest: Path | None
    log: Path | None
    objects: Sequence[Path] | None
    bench: Path | None


def gather(inputs: Inputs, scratch: Path) -> Data:
    """Reads all that was given.

    Raises:
      InputError, LogError, OSError: a file is not what it should be.
    """
    benchmark = read_benchmark(inputs.bench) if inputs.bench else None
    kernels = read_manifest(inputs.manifest) if inputs.manifest else None
    spawns: list[Spawn] = read_log(inputs.log) if inputs.log else []
    objects = inputs.objects or ()
    usages = None
    if kernels is not None and inputs.objects is not None:
        objects = objects_of(kernels, inputs.objects)
        usages = _usages(kernels, objects, scratch)
    sizes = {object_stem(path.name): path.stat().st_size for path in objects}
    compiled = compiles(spawns, inputs.target)
    return Data(
        target=inputs.target,
        kernels=kernels,
        files=source_files(kernels or (), compiled, sizes),
        caches=caches(compiled),
        targets_in_log=compiled_targets(spawns),
        usages=usages,
        bars=timeline(spawns) if inputs.log else None,
        benchmark=benchmark,
    )


def _usages(kernels: Sequence[Kernel], objects: Sequence[Path], scratch: Path) -> list[KernelUsage]:
    shared = {}
    if _SHARED_MEMORY.is_file():
        bits = {name: scalar.bits for name, scalar in load_tables().scalar_types.items()}
        shared = dynamic_shared_memory(kernels, bits, _SHARED_MEMORY)
    ids = scalar_type_ids(_TYPE_IDS) if _TYPE_IDS.is_file() else {}
    return match_kernels(read_objects(objects, scratch), kernels, shared, ids)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the process's exit code."""
    options = _options(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            data = gather(_inputs(options, Path(scratch)), Path(scratch))
            title = "Marlin kernels for mixture-of-experts layers"
            write_whole(options.out, render(title, summary(data), sections(data)))
    except (InputError, LogError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.out}")
    return 0


def _inputs(options: argparse.Namespace, scratch: Path) -> Inputs:
    """Builds what is to be built; files that were named go before what the build made."""
    if options.out.is_dir() or not options.out.parent.is_dir():
        raise InputError(f"--out={options.out}: give a file in a folder that is there")
    target = full_label(options.target)
    manifest, log = options.manifest, options.log
    objects: Sequence[Path] | None = objects_in(options.objects) if options.objects else None
    if options.cuda_archs:
        built_log = scratch / "log.json"
        workspace = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
        outputs = build(workspace, target, options.cuda_archs, options.output_base, built_log)
        manifest, log = manifest or outputs.manifest, log or built_log
        objects = outputs.objects if objects is None else objects
    return Inputs(target, manifest, log, objects, options.bench)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="report",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--cuda_archs", metavar="ARCHS", help="build for these architectures")
    parser.add_argument(
        "--target", default=_DEFAULT_TARGET, help="a marlin_moe_kernels target (%(default)s)"
    )
    parser.add_argument(
        "--output_base", type=_path, metavar="FOLDER", help="Bazel's, for the build"
    )
    parser.add_argument("--manifest", type=_path, help="manifest.json of the kernels")
    parser.add_argument("--log", type=_path, help="what --execution_log_json_file wrote")
    parser.add_argument("--objects", type=_path, metavar="FOLDER", help="compiled kernels")
    parser.add_argument("--bench", type=_path, help="what tests/gpu/bench_moe_gemm.py --out wrote")
    parser.add_argument("--out", type=_path, required=True, metavar="FILE", help="the page")
    options = parser.parse_args(arguments)
    given = (options.cuda_archs, options.manifest, options.log, options.objects, options.bench)
    if not any(given):
        parser.error(
            "nothing to report: give --cuda_archs to build kernels, or any of --manifest, --log, "
            "--objects and --bench"
        )
    if options.output_base and not options.cuda_archs:
        parser.error("--output_base goes with --cuda_archs: nothing else is built")
    return options


def _path(name: str) -> Path:
    """A path as the user means it: `bazel run` starts programs elsewhere."""
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), name)


if __name__ == "__main__":
    sys.exit(main())
