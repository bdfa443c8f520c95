"""Scenarios in which all goes well: another machine finds everything in the cache."""

from __future__ import annotations

from builds import SUCCESS
from laboratory import (
    EVERYTHING,
    MINIMAL,
    READ_ONLY,
    Laboratory,
    another_machine_hits,
    check,
    show,
    through_executor,
    through_http,
)
from meter import Meter
from report import hit_rate, runners


def remote_execution(laboratory: Laboratory) -> None:
    """A cold build on the executor, then others that find all of it in its cache."""
    reference = laboratory.reference
    with laboratory.executor() as executor:
        with Meter(executor.port) as meter, laboratory.machine() as machine:
            build = machine.build(through_executor(meter.port), EVERYTHING)
            show("cold, remote", build, meter)
            check("it succeeds", build.status == SUCCESS)
            check(
                "every action runs remotely", runners(build.spawns) == {"remote": len(build.spawns)}
            )
            check("the files are the reference's", build.files() == reference)
        for options in ([EVERYTHING], [], [MINIMAL]):
            another_machine_hits(laboratory, executor.port, through_executor, options, reference)


def http_cache(laboratory: Laboratory) -> None:
    """A local build that fills the HTTP cache, then others that find all of it there."""
    reference = laboratory.reference
    with laboratory.http_cache() as cache:
        with Meter(cache.port) as meter, laboratory.machine() as machine:
            build = machine.build(through_http(meter.port), EVERYTHING)
            show("cold, fills the cache", build, meter)
            check("it runs locally", build.status == SUCCESS and hit_rate(build.spawns) == 0)
            check("the files are the reference's", build.files() == reference)
        for options in ([EVERYTHING], [], [MINIMAL]):
            another_machine_hits(
                laboratory, cache.port, through_http, [READ_ONLY, *options], reference
            )
        with laboratory.machine() as machine:
            mark = "--remote_default_exec_properties=host-tools=others"
            build = machine.build(through_http(cache.port), mark, READ_ONLY)
            show("a machine with another mark", build)
            check("it shares nothing", build.status == SUCCESS and hit_rate(build.spawns) == 0)
