"""Checks that two cold builds of all kernels have the same bytes and the same actions.

    bazelw run //tests/cache:compare_all -- FOLDER [--archs sm_80,sm_89] [--kernel-set LABEL]
        [--log FILE]

FOLDER must not exist and must not lie in a temporary folder, which sandboxed actions do not see. It
takes two checkouts of the tree with caches and outputs of their own, one after the other: one
builds in the sandbox with one job, the other without it and with two, each for another user. It is
removed at the end. FILE takes the execution log of the first build, for
tools/bench_build/build_graph.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import jinja2
import markupsafe
from checkout import BuildError, Checkout, copy_tree, repository_of
from comparison import ColdBuild, build_cold, different_actions, different_files
from workspace import WorkspaceError

_KERNELS = "//csrc/marlin_moe:kernels"


def _build(
    options: argparse.Namespace, name: str, *flags: str, jobs: int, log: Path | None = None
) -> ColdBuild:
    """Builds everything in a new checkout, and removes that."""
    package = options.kernel_set.removeprefix("//").partition(":")[0]
    packages = sorted({package, "csrc/marlin_moe", "tools/marlin_gen"})
    targets = [options.kernel_set, "//csrc/marlin_moe:moe_gemm", "//tools/marlin_gen:generator"]
    flags += (
        f"--cuda_archs={options.archs}",
        f"--//csrc/marlin_moe:kernel_set={options.kernel_set}",
    )
    with Checkout(
        options.folder / "source",
        options.folder / name,
        user=f"planted-user-{name}",
        repositories=repository_of(jinja2, markupsafe),
        variables={"PLANTED": f"planted-user-{name}"},
    ) as checkout:
        build = build_cold(checkout, targets, packages, *flags, jobs=jobs)
        if log:
            shutil.copy(checkout.last_log, log)
        return build


def _parse() -> argparse.Namespace:
    """Reads the command line; paths in it are relative to where `bazel run` was called."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--archs", default="sm_80,sm_89")
    parser.add_argument("--kernel-set", default=_KERNELS, help="the marlin_moe_kernels target")
    parser.add_argument("--log", type=Path, help="where the first execution log goes")
    options = parser.parse_args()
    if "BUILD_WORKSPACE_DIRECTORY" not in os.environ:
        parser.error("start this with `bazelw run //tests/cache:compare_all`")
    start = Path(os.environ["BUILD_WORKING_DIRECTORY"])
    options.folder = start / options.folder
    options.log = start / options.log if options.log else None
    if options.folder.exists():
        parser.error(f"FOLDER is {options.folder}, which exists; name a new folder")
    return options


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    options = _parse()
    options.folder.mkdir(parents=True)
    try:
        # Both checkouts are of one state of the tree, even if somebody works in it meanwhile.
        copy_tree(Path(os.environ["BUILD_WORKSPACE_DIRECTORY"]), options.folder / "source")
        one = _build(options, "one", jobs=1, log=options.log)
        other = _build(options, "other", "--spawn_strategy=local", jobs=2)
    except (BuildError, WorkspaceError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(options.folder)
    ours = [[spawn for spawn in build.spawns if spawn.is_ours] for build in (one, other)]
    problems = [*one.traces, *other.traces]
    problems += different_files(one.digests, other.digests) + different_actions(*ours)
    objects = sum(path.endswith(".o") for path in one.digests)
    print(*problems, sep="\n", end="\n" if problems else "")
    print(
        f"{len(one.digests)} outputs, {objects} objects among them, of {len(ours[0])} actions: "
        f"{len(problems)} differences"
    )
    return 1 if problems or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
