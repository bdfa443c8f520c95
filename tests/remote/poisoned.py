"""Scenarios in which somebody has written other bytes into a cache.

Bazel compares every download with the digest that it asked for. It cannot know whether the digests
in an action-cache entry are those that the action would have made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from builds import LOST_INPUT, REMOTE_ERROR, SUCCESS, Build
from execution_log import Spawn
from laboratory import (
    EVERYTHING,
    READ_ONLY,
    Laboratory,
    another_machine_hits,
    check,
    compiles,
    object_name,
    quote,
    show,
    through_executor,
    through_http,
    within,
)
from servers import HttpCache

_RETRY_LOST_INPUT = "--experimental_remote_cache_eviction_retries=1"


def http_cache_poisoned(laboratory: Laboratory) -> None:
    """Blobs and action-cache entries of the HTTP cache are overwritten with others."""
    reference = laboratory.reference
    with laboratory.http_cache() as cache:
        with laboratory.machine() as machine:
            build = machine.build(through_http(cache.port))
            show("fills the cache", build)
        harmed = _poison(cache, compiles(build))
        for options in ([EVERYTHING, READ_ONLY], [EVERYTHING]):
            with laboratory.machine() as another:
                build = another.build(through_http(cache.port), *options)
                show(f"another machine {' '.join(options)}", build)
                quote(build)
                check("the build succeeds", build.status == SUCCESS)
                check("the files are the reference's", build.files() == reference)
                missed = {object_name(s) for s in build.spawns if not s.cache_hit}
                check(f"the {len(harmed)} harmed actions ran, no other", missed == harmed)
        print("  that build has written the entries anew:")
        another_machine_hits(laboratory, cache.port, through_http, [EVERYTHING], reference)
        _late_input(laboratory, cache, build)
        _forged_entry(laboratory, cache, compiles(build)[1])


def _poison(cache: HttpCache, spawns: list[Spawn]) -> set[str]:
    """Harms the results of some actions, each in another way; returns their objects."""
    ways: list[tuple[str, Callable[[Path, Path], object]]] = [
        ("blob with other bytes, same size", lambda blob, _: blob.write_bytes(_flipped(blob))),
        ("blob cut in half", lambda blob, _: blob.write_bytes(_half(blob))),
        ("blob deleted", lambda blob, _: blob.unlink()),
        ("entry of random bytes", lambda _, entry: entry.write_bytes(bytes(range(256)))),
        ("entry names a digest that no blob has", _name_missing_blob),
    ]
    check(f"there is a kernel file for each of {len(ways)} ways", len(spawns) >= len(ways))
    harmed = set()
    for spawn, (way, harm) in zip(spawns, ways, strict=False):
        (digest,) = (file.digest for file in spawn.outputs.values())
        harm(cache.blobs / digest, _entry(cache, spawn))
        print(f"  {object_name(spawn)}: {way}")
        harmed.add(object_name(spawn))
    return harmed


def _late_input(laboratory: Laboratory, cache: HttpCache, build: Build) -> None:
    """Harms a blob that Bazel fetches late: when a local action needs what a hit left there."""
    reference = laboratory.reference
    compiled = compiles(build)[0]
    (digest,) = (file.digest for file in compiled.outputs.values())
    (archive,) = (
        spawn
        for spawn in build.spawns
        if spawn.mnemonic == "CppArchive" and compiled.outputs.keys() <= spawn.inputs.keys()
    )
    (cache.blobs / digest).write_bytes(_flipped(cache.blobs / digest))
    _entry(cache, archive).unlink()
    print(f"  {object_name(compiled)}: blob with other bytes, and the archive must be made anew")
    with laboratory.machine() as another:
        build = another.build(through_http(cache.port), READ_ONLY)
        show("another machine", build)
        quote(build)
        check(f"the build fails with exit code {LOST_INPUT}", build.status == LOST_INPUT)
        build = another.build(through_http(cache.port), READ_ONLY, EVERYTHING)
        show(f"the same, {EVERYTHING}", build)
        check("the build ends", build.status == SUCCESS)
        check("the files are the reference's", build.files(reference) == reference)
    (cache.blobs / digest).unlink()
    print(f"  {object_name(compiled)}: blob deleted, and the archive must be made anew")
    with laboratory.machine() as another:
        build = another.build(through_http(cache.port), READ_ONLY, _RETRY_LOST_INPUT)
        show(f"another machine {_RETRY_LOST_INPUT}", build)
        check("the build ends", build.status == SUCCESS)
        archives = set(archive.outputs)
        check("the archive is there", archives <= build.files(reference).keys())
        check("the outputs are the reference's", within(build.files(reference), reference))


def _entry(cache: HttpCache, spawn: Spawn) -> Path:
    """The action-cache entry that names a spawn's output."""
    (digest,) = (file.digest for file in spawn.outputs.values())
    (entry,) = (e for e in cache.results.iterdir() if digest.encode() in e.read_bytes())
    return entry


def _forged_entry(laboratory: Laboratory, cache: HttpCache, spawn: Spawn) -> None:
    """Shows what Bazel cannot notice: an entry that names a wrong blob, which is there."""
    (digest,) = (file.digest for file in spawn.outputs.values())
    entry = _entry(cache, spawn)
    forged = _flipped(cache.blobs / digest)
    false_digest = hashlib.sha256(forged).hexdigest()
    (cache.blobs / false_digest).write_bytes(forged)
    entry.write_bytes(entry.read_bytes().replace(digest.encode(), false_digest.encode()))
    print(f"  {object_name(spawn)}: well-formed entry that names another blob, which is there")
    with laboratory.machine() as another:
        build = another.build(through_http(cache.port), EVERYTHING, READ_ONLY)
        show("another machine", build)
        accepted = false_digest in build.outputs.values()
        check("Bazel takes the forged entry: whoever may write to a cache is trusted", accepted)


def executor_poisoned(laboratory: Laboratory) -> None:
    """A blob of the executor's storage is overwritten."""
    reference = laboratory.reference
    with laboratory.executor() as executor:
        with laboratory.machine() as machine:
            build = machine.build(through_executor(executor.port))
            show("fills the cache", build)
        (digest,) = (file.digest for file in compiles(build)[0].outputs.values())
        (blob,) = (
            path for path in executor.blobs.rglob("*") if digest in f"{path.parent.name}{path.name}"
        )
        blob.write_bytes(_flipped(blob))
        with laboratory.machine() as another:
            build = another.build(through_executor(executor.port), EVERYTHING)
            show("another machine", build)
            quote(build)
            check(f"the build fails with exit code {REMOTE_ERROR}", build.status == REMOTE_ERROR)
            check("what was made is right", within(build.files(), reference))
            build = another.build(
                through_executor(executor.port), EVERYTHING, "--remote_local_fallback"
            )
            show("the same, with --remote_local_fallback", build)
            check("the build ends", build.status == SUCCESS)
            check("the files are the reference's", build.files(reference) == reference)


def _flipped(blob: Path) -> bytes:
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)


def _half(blob: Path) -> bytes:
    content = blob.read_bytes()
    return content[: len(content) // 2]


def _name_missing_blob(blob: Path, entry: Path) -> None:
    other = hashlib.sha256(b"nobody has stored this").hexdigest()
    entry.write_bytes(entry.read_bytes().replace(blob.name.encode(), other.encode()))
