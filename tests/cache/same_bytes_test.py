"""Two cold builds that share nothing make the same bytes with the same actions."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from comparison import ColdBuild, different_actions, different_files

KINDS = ["sandboxed, one job", "local, two jobs"]


def test_builds_are_cold_and_run_as_they_should(cold_builds: Mapping[str, ColdBuild]) -> None:
    runners = {kind: {spawn.runner for spawn in cold_builds[kind].spawns} for kind in KINDS}
    assert all(runner.endswith("sandbox") for runner in runners["sandboxed, one job"])
    assert runners["local, two jobs"] == {"local"}


def test_all_kinds_of_outputs_are_looked_at(cold_builds: Mapping[str, ColdBuild]) -> None:
    for build in cold_builds.values():
        names = {path.rpartition("/")[2] for path in build.digests}
        assert names >= {
            "kernel_selector.h",
            "libkernels.sm80.fp8_weights.a",
            "liblauncher.so",
            "libmoe_gemm.a",
            "manifest.json",
            "sm80_kernel_float16_u4b8_float16.cu",
            "sm80_kernel_float16_u4b8_float16.pic.o",
        }


def test_outputs_have_the_same_bytes(cold_builds: Mapping[str, ColdBuild]) -> None:
    one, other = (cold_builds[kind].digests for kind in KINDS)
    assert different_files(one, other) == []


def test_actions_are_the_same(cold_builds: Mapping[str, ColdBuild]) -> None:
    one, other = ([spawn for spawn in cold_builds[kind].spawns if spawn.is_ours] for kind in KINDS)
    assert one
    assert different_actions(one, other) == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_tells_of_the_checkout_or_its_user(
    cold_builds: Mapping[str, ColdBuild], kind: str
) -> None:
    assert cold_builds[kind].traces == []
