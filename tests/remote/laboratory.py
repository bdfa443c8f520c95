"""What the scenarios share: machines and servers, the reference, and checks that print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path

from builds import SUCCESS, Build, Machine
from execution_log import Spawn
from install import Programs
from meter import Meter
from report import describe, hit_rate, input_bytes, output_bytes, runners, size
from servers import Executor, HttpCache

HIT = "remote cache hit"
EVERYTHING = "--remote_download_all"
MINIMAL = "--remote_download_minimal"
READ_ONLY = "--noremote_upload_local_results"


class CheckFailedError(Exception):
    """A build did not do what it should."""


@dataclass
class Laboratory:
    """Where the scenarios run, and what they share.

    Attributes:
      programs: the installed servers.
      source: the source tree.
      folder: takes everything; must exist.
      target: label of the kernels.
      jobs: how many actions run at once, here or on the executor.
    """

    programs: Programs
    source: Path
    folder: Path
    target: str
    jobs: int
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def new(self, name: str) -> Path:
        """A folder that does not exist yet, at a depth that varies."""
        number = next(self._numbers)
        parent = self.folder if number % 2 else self.folder / "further" / "away"
        parent.mkdir(parents=True, exist_ok=True)
        return parent / f"{name}{number}"

    def machine(self) -> Machine:
        """Another machine: nothing in its caches, its checkout elsewhere."""
        options = [f"--jobs={self.jobs}", "--remote_default_exec_properties=OSFamily=linux"]
        return Machine(self.source, self.new("machine"), self.target, options)

    def executor(self) -> Executor:
        """A remote executor with an empty cache."""
        return Executor(self.programs, self.new("executor"), self.jobs)

    def http_cache(self) -> HttpCache:
        """An empty HTTP cache."""
        return HttpCache(self.programs, self.new("http"))

    @cached_property
    def reference(self) -> dict[str, str]:
        """SHA-256 of every output by path, of a build that no server had a part in."""
        with self.machine() as machine:
            build = machine.build()
            show("reference, all local", build)
            files = build.files()
            check("it runs locally", build.status == SUCCESS and hit_rate(build.spawns) == 0)
            check(f"it leaves {len(files)} files", bool(files) and files == build.outputs)
            sizes = (size(input_bytes(build.spawns)), size(output_bytes(build.spawns)))
            print("  different inputs {}, outputs {}".format(*sizes))
        return files


def check(what: str, holds: bool) -> None:
    """Prints what should be, and ends the scenario where it is not."""
    print(f"  {'ok    ' if holds else 'FAILED'} {what}", flush=True)
    if not holds:
        raise CheckFailedError(what)


def show(name: str, build: Build, moved: Meter | None = None) -> None:
    """Prints what a build did."""
    print(f"  {name}: {build.seconds:.1f} s; {describe(build.spawns)}", flush=True)
    if moved:
        print(f"    moved: {size(moved.sent)} to the server, {size(moved.received)} from it")


def another_machine_hits(
    laboratory: Laboratory,
    port: int,
    server: Callable[[int], str],
    options: Sequence[str],
    reference: dict[str, str],
) -> None:
    """Builds on a machine that never built this, and checks that a cache has all of it."""
    with Meter(port) as meter, laboratory.machine() as machine:
        build = machine.build(server(meter.port), *options)
        show(f"second machine {' '.join(options)}".strip(), build, meter)
        check("it succeeds", build.status == SUCCESS)
        check("every action is a hit", runners(build.spawns) == {HIT: len(build.spawns)})
        check("the outputs are the reference's", build.outputs == reference)
        files = build.files()
        expected = {path: reference[path] for path in reference if _is_fetched(path, options)}
        check(f"the {len(files)} files on the disk are those asked for", files == expected)


def _is_fetched(path: str, options: Sequence[str]) -> bool:
    """Whether a build that has only hits downloads an output."""
    if EVERYTHING in options:
        return True
    return MINIMAL not in options and path.endswith(".a")


def through_executor(port: int) -> str:
    """The option that makes Bazel use a remote executor."""
    return f"--remote_executor=grpc://127.0.0.1:{port}"


def through_http(port: int) -> str:
    """The option that makes Bazel use an HTTP cache."""
    return f"--remote_cache=http://127.0.0.1:{port}"


def compiles(build: Build) -> list[Spawn]:
    """The runs of nvcc, each of which made one object."""
    return [spawn for spawn in build.spawns if spawn.mnemonic == "CudaCompile"]


def object_name(spawn: Spawn) -> str:
    """The name of the object that a run of nvcc made."""
    return next(iter(spawn.listed_outputs)).rpartition("/")[2]


def within(files: dict[str, str], reference: dict[str, str]) -> bool:
    """Whether there are files, each the reference's: what a build left that was cut short."""
    return bool(files) and all(reference.get(path) == digest for path, digest in files.items())


def quote(build: Build) -> None:
    """Prints what Bazel said of remote errors."""
    for line in build.said.splitlines():
        if line.startswith(("WARNING:", "ERROR:")):
            print(f"    | {line}")
