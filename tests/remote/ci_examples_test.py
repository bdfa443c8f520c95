"""Tests of docs/ci: each flag exists, each --config is defined, and pull requests write nothing."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bazel_command import own_server, refusal
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))
EXAMPLES = ROOT / "docs/ci"
FRAGMENT = EXAMPLES / "marlin_moe.bazelrc"
GITHUB = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
GITLAB = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())
HOW_TO = ROOT / "docs/remote-caching.md"


def fragment() -> Iterator[tuple[str, str]]:
    """The flags of the fragment, each with its config, or "" where it always holds."""
    for line in FRAGMENT.read_text().splitlines():
        if line and not line.startswith("#"):
            command, flag = line.split(maxsplit=1)
            assert command.partition(":")[0] in ("build", "common"), line
            yield command.partition(":")[2], flag


def configs() -> set[str]:
    return {config for config, _ in fragment() if config}


def flags_of(config: str) -> list[str]:
    return [flag for name, flag in fragment() if name == config]


def strings(value: Any) -> Iterator[str]:
    """All strings within a YAML document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def bazel_commands(document: Any) -> list[list[str]]:
    """The words of each Bazel command in a YAML document."""
    return [shlex.split(text) for text in strings(document) if text.startswith("bazel ")]


@pytest.fixture(scope="module")
def bazel() -> Iterator[list[str]]:
    with own_server(ROOT, ROOT) as command:
        yield command


def test_bazel_refuses_flags_that_it_does_not_have(bazel):
    assert "no_such_flag" in refusal(bazel, ROOT, ["--jobs=2", "--no_such_flag"])
    assert "--jobs" in refusal(bazel, ROOT, ["--jobs=many"])


def test_bazel_knows_every_flag_of_the_fragment(bazel):
    flags = [flag for _, flag in fragment()]
    assert len(flags) > 20
    assert refusal(bazel, ROOT, flags) == ""


@pytest.mark.parametrize("document", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_bazel_knows_every_flag_of_the_pipelines(bazel, document):
    commands = bazel_commands(document)
    assert commands
    for command in commands:
        assert command[1] == "build"
        flags = [word for word in command[2:] if word.startswith("-")]
        assert refusal(bazel, ROOT, flags) == ""
        used = {flag.removeprefix("--config=") for flag in flags if flag.startswith("--config=")}
        assert used and used <= configs()


def test_bazel_knows_every_flag_of_the_how_to(bazel):
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_]+(?:=[^\s`|…]*)?", HOW_TO.read_text()))
    configured = {flag for flag in named if flag.startswith("--config=")}
    assert {flag.removeprefix("--config=") for flag in configured} <= configs()
    # Written without its value, an option of a value is still known by its name.
    unknown = [
        flag
        for flag in sorted(named - configured)
        if "Unrecognized" in refusal(bazel, ROOT, [flag])
    ]
    assert unknown == []
    assert len(named) > 10


def test_a_shared_cache_is_read_only_unless_a_build_is_a_writer():
    assert "--noremote_upload_local_results" in flags_of("cache")
    assert flags_of("writer") == ["--remote_upload_local_results"]
    # The last one holds: a writer names its config behind the cache's.
    assert "--remote_upload_local_results" not in flags_of("cache")


def test_caches_of_a_machine_without_an_image_carry_a_mark():
    for config in ("disk", "cache"):
        properties = [flag for flag in flags_of(config) if "exec_properties" in flag]
        assert len(properties) == 1
        assert "host-tools=" in properties[0]


def test_pull_requests_on_github_save_nothing():
    steps = GITHUB["jobs"]["kernels"]["steps"]
    saving = [step for step in steps if "actions/cache" in step.get("uses", "")]
    actions = {step["uses"].partition("@")[0]: step for step in saving}
    assert set(actions) == {"actions/cache/restore", "actions/cache/save"}
    assert actions["actions/cache/save"]["if"] == "github.event_name == 'push'"
    # YAML 1.1 reads the key `on` as true.
    assert GITHUB[True]["push"] == {"branches": ["main"]}
    assert GITHUB["permissions"] == {"contents": "read"}


def test_what_is_saved_on_github_is_what_is_restored():
    steps = GITHUB["jobs"]["kernels"]["steps"]
    restore, save = (s["with"] for s in steps if "actions/cache/" in s.get("uses", ""))
    assert (restore["path"], restore["key"]) == (save["path"], save["key"])
    assert save["key"].startswith(restore["restore-keys"])
    assert f"--disk_cache={save['path']}" in flags_of("disk")


def test_merge_requests_on_gitlab_save_nothing():
    jobs = {name: job for name, job in GITLAB.items() if "rules" in job}
    policies = {job["rules"][0]["if"]: job["cache"]["policy"] for job in jobs.values()}
    assert policies == {
        "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH": "pull-push",
        '$CI_PIPELINE_SOURCE == "merge_request_event"': "pull",
    }
    folders = {tuple(job["cache"]["paths"]) for job in jobs.values()}
    ((folder,),) = folders
    assert f"--disk_cache={folder}" in flags_of("disk")


def test_the_pipelines_print_what_a_build_event_file_says():
    (events,) = (
        flag.partition("=")[2] for flag in flags_of("ci") if "build_event_json_file" in flag
    )
    said = '{"buildMetrics":{"actionSummary":{"runnerCount":[{"name":"total","count":10}]}}}\n'
    for document in (GITHUB, GITLAB):
        (command,) = (text for text in strings(document) if "runnerCount" in text)
        assert command.endswith(f" {events}")
        result = subprocess.run(
            shlex.split(command)[:-1], input=said, capture_output=True, text=True, check=True
        )
        assert result.stdout == '"runnerCount":[{"name":"total","count":10}]\n'
