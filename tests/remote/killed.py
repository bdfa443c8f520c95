"""Scenarios in which a server is killed in the middle of a build, and started again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from builds import REMOTE_ERROR, SUCCESS
from laboratory import (
    EVERYTHING,
    Laboratory,
    another_machine_hits,
    check,
    compiles,
    quote,
    show,
    through_executor,
    through_http,
    within,
)
from report import hit_rate, runners
from servers import HttpCache


def executor_killed(laboratory: Laboratory) -> None:
    """The executor's server is killed in the middle of a build, and started again."""
    reference = laboratory.reference
    with laboratory.executor() as executor, laboratory.machine() as machine:
        options = [through_executor(executor.port), EVERYTHING]
        build = machine.build(*options, when_compiled=(2, executor.server.kill))
        show("killed after two kernel files", build)
        quote(build)
        check(f"the build fails with exit code {REMOTE_ERROR}", build.status == REMOTE_ERROR)
        check("what was made is right", within(build.outputs, reference))
        executor.server.start()
        build = machine.build(*options)
        show("server started again, same machine", build)
        check("the build ends", build.status == SUCCESS)
        check("the files are the reference's", build.files(reference) == reference)
        with laboratory.machine() as another:
            build = another.build(*options)
            show("another machine", build)
            check("the files are the reference's", build.files() == reference)

    with laboratory.executor() as executor, laboratory.machine() as machine:
        options = [through_executor(executor.port), EVERYTHING]
        options.append("--remote_local_fallback")
        build = machine.build(*options, when_compiled=(2, executor.server.kill))
        show("killed after two kernel files, with --remote_local_fallback", build)
        quote(build)
        check("the build ends", build.status == SUCCESS)
        ran = runners(compiles(build))
        check("nvcc ran there before, here afterwards", ran.keys() == {"remote", "local"})
        check("the files are the reference's", build.files() == reference)


def http_cache_killed(laboratory: Laboratory) -> None:
    """The HTTP cache is killed in the middle of a build, and started again."""
    reference = laboratory.reference
    with laboratory.http_cache() as cache:
        with laboratory.machine() as machine:
            kill = (2, cache.service.kill)
            build = machine.build(through_http(cache.port), EVERYTHING, when_compiled=kill)
            show("killed after two kernel files", build)
            quote(build)
            check("the build goes on locally", build.status == SUCCESS)
            check("the files are the reference's", build.files() == reference)
        broken = _corrupt_blobs(cache)
        check(f"none of the {len(list(cache.blobs.iterdir()))} blobs is corrupt", not broken)
        cache.service.start()
        with laboratory.machine() as another:
            build = another.build(through_http(cache.port), EVERYTHING)
            show("server started again, another machine", build)
            check("a part is there", 0 < hit_rate(build.spawns) < 1)
            check("the files are the reference's", build.files() == reference)
        another_machine_hits(laboratory, cache.port, through_http, [EVERYTHING], reference)


def _corrupt_blobs(cache: HttpCache) -> list[Path]:
    blobs = list(cache.blobs.iterdir())
    return [b for b in blobs if hashlib.sha256(b.read_bytes()).hexdigest() != b.name]
