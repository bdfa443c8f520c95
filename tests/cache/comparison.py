"""Compares cold builds of two checkouts: bytes of their outputs, and actions one by one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from checkout import Checkout
from execution_log import Spawn

# Bazel links runfiles together with these, for itself: they are lists of absolute paths, which no
# action of ours reads and no cache holds.
_LISTS_OF_PATHS = re.compile(r"\.runfiles_manifest$|\.runfiles/MANIFEST$")

# Where the C++ toolchain of the machine is: part of the host, not of the checkout or its user.
# /proc/self/cwd is what Bazel calls the working folder, whatever its path.
_PATHS_OF_HOST = re.compile(r"/(?:usr|bin|sbin|lib|lib64|proc/self/cwd)(?:/|$)")

# An absolute path: at the start of a word, or behind an option of one letter such as -I.
_ABSOLUTE_PATH = re.compile(r"(?:^-{1,2}[A-Za-z]+|[\s=:,;@\"'(]|^)(/[^\s=:,;\"')]+)")


@dataclass(frozen=True)
class ColdBuild:
    """What a build from nothing did and made.

    `digests` has the SHA-256 of each output by its path, `traces` what traces_of_machine() and
    traces_in_files() find.
    """

    spawns: Sequence[Spawn]
    digests: Mapping[str, str]
    traces: Sequence[str]


def build_cold(
    checkout: Checkout, targets: Sequence[str], packages: Sequence[str], *options: str, jobs: int
) -> ColdBuild:
    """Builds targets in a checkout that has built nothing yet.

    Args:
      checkout: the checkout.
      targets: labels of the targets.
      packages: the packages whose outputs count.
      options: more options of the build.
      jobs: how many actions run at a time.
    """
    spawns = checkout.build(targets, *options, jobs=jobs)
    bin_folder = checkout.bin_folder()
    digests = digests_below(bin_folder, packages)
    secrets = {
        "path of the checkout": str(checkout.folder),
        "name of the user": checkout.environment["USER"],
    }
    traces = traces_of_machine([spawn for spawn in spawns if spawn.is_ours], secrets)
    traces += traces_in_files(bin_folder, list(digests), secrets)
    return ColdBuild(spawns, digests, traces)


def digests_below(bin_folder: Path, packages: Sequence[str]) -> dict[str, str]:
    """Returns the SHA-256 of every output of some packages, links followed, by path."""
    digests = {}
    for package in packages:
        for folder, _, names in os.walk(bin_folder / package, followlinks=True):
            for name in names:
                path = Path(folder, name)
                if not _LISTS_OF_PATHS.search(str(path)):
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    digests[str(path.relative_to(bin_folder))] = digest
    return digests


def different_files(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Returns what differs between the outputs of two builds."""
    problems = [f"{path}: only one build has it" for path in sorted(set(one) ^ set(other))]
    for path in sorted(set(one) & set(other)):
        if one[path] != other[path]:
            problems.append(f"{path}: {one[path]} and {other[path]}")
    return problems


def different_actions(one: Sequence[Spawn], other: Sequence[Spawn]) -> list[str]:
    """Returns what differs between the actions of two builds: all that a cache key is made of."""
    ours, theirs = _by_output(one), _by_output(other)
    problems = [f"{key}: only one build has it" for key in sorted(set(ours) ^ set(theirs))]
    for key in sorted(set(ours) & set(theirs)):
        problems += [f"{key}: {what}" for what in _different_parts(ours[key], theirs[key])]
    return problems


def _by_output(spawns: Sequence[Spawn]) -> dict[str, Spawn]:
    found: dict[str, Spawn] = {}
    for spawn in spawns:
        key = f"{spawn.mnemonic} {spawn.label} {spawn.listed_outputs[0]}"
        if key in found:
            raise ValueError(f"two actions are {key}")
        found[key] = spawn
    return found


def _different_parts(one: Spawn, other: Spawn) -> list[str]:
    problems = []
    for part in ("arguments", "environment", "platform", "listed_outputs"):
        ours, theirs = getattr(one, part), getattr(other, part)
        if ours != theirs:
            problems.append(f"{part} are {ours} and {theirs}")
    for part in ("inputs", "outputs"):
        ours, theirs = getattr(one, part), getattr(other, part)
        for path in sorted(set(ours) | set(theirs)):
            if ours.get(path) != theirs.get(path):
                problems.append(f"{part}: {path} is {ours.get(path)} and {theirs.get(path)}")
    return problems


def traces_of_machine(spawns: Sequence[Spawn], secrets: Mapping[str, str]) -> list[str]:
    """Returns where actions hold what only one checkout, user or machine has.

    Args:
      spawns: the actions.
      secrets: texts that must not occur, by what they are, such as `"home folder": "/x/y"`.

    Returns:
      A line for each secret found and for each absolute path, other than those of the host's C++
      toolchain, in an argument, a variable, or the path of an input or output.
    """
    problems = []
    for spawn in spawns:
        texts = {f"argument {number}": text for number, text in enumerate(spawn.arguments)}
        texts |= {f"variable {name}": text for name, text in spawn.environment.items()}
        texts |= {f"name of variable {name}": name for name in spawn.environment}
        texts |= {f"path {path}": path for path in [*spawn.inputs, *spawn.listed_outputs]}
        for where, text in texts.items():
            for what in _traces(text, secrets):
                problems.append(f"{spawn.name} of {spawn.label}: {where} holds {what}: {text}")
    return problems


def _traces(text: str, secrets: Mapping[str, str]) -> list[str]:
    found = [f"the {what}" for what, secret in secrets.items() if secret in text]
    paths = _ABSOLUTE_PATH.findall(text)
    return found + [f"the path {path}" for path in paths if not _PATHS_OF_HOST.match(path)]


def traces_in_files(
    bin_folder: Path, paths: Sequence[str], secrets: Mapping[str, str]
) -> list[str]:
    """Returns which outputs hold one of the secrets anywhere in their bytes."""
    problems = []
    for path in paths:
        content = (bin_folder / path).read_bytes()
        for what, secret in secrets.items():
            if secret.encode() in content:
                problems.append(f"{path} holds the {what}: {secret}")
    return problems
