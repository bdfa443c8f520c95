"""Builds that several tests look at, and the cache that they share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2
import markupsafe
import pytest
from checkout import Checkout, copy_tree, repository_of
from clone import Clone, markdown
from comparison import ColdBuild, build_cold
from subject import OPTIONS, PACKAGES, TARGETS
from workspace import find_root

_SCRATCH = Path(os.environ["TEST_TMPDIR"])


def _checkout(name: str, user: str, variables: Mapping[str, str]) -> Checkout:
    # All checkouts are of one state of the tree, even if somebody works in it meanwhile.
    source = _SCRATCH / "source"
    if not source.exists():
        copy_tree(find_root(Path(os.environ["TOP_LEVEL_FILE"])), source)
    return Checkout(
        source,
        _SCRATCH / name,
        user=user,
        repositories=repository_of(jinja2, markupsafe),
        variables=variables,
    )


@pytest.fixture(scope="session")
def full_cache() -> Path:
    """A disk cache: what the first cold build stores in it. Nobody else may write there."""
    return _SCRATCH / "disk_cache"


@pytest.fixture(scope="session")
def cold_builds(full_cache: Path) -> Mapping[str, ColdBuild]:
    """Two builds that differ in whatever may not matter: place, user, environment and strategy."""
    with _checkout("first", "planted-user-one", {"LANG": "C"}) as checkout:
        options = [*OPTIONS, f"--disk_cache={full_cache}"]
        first = build_cold(checkout, TARGETS, PACKAGES, *options, jobs=1)
    # Modules that Python would import before anything of ours.
    shadows = _SCRATCH / "shadows"
    shadows.mkdir()
    for name in ("json", "sitecustomize", "zipfile"):
        (shadows / f"{name}.py").write_text('raise SystemExit("not to be imported")')
    variables = {
        "LANG": "C.UTF-8",
        "PATH": f"{os.environ.get('PATH', os.defpath)}:{_SCRATCH}/planted-user-two",
        "PLANTED": "planted-user-two",
        "PYTHONPATH": str(shadows),
        "TMPDIR": str(_SCRATCH),
    }
    with _checkout("another/place", "planted-user-two", variables) as checkout:
        options = [*OPTIONS, "--spawn_strategy=local"]
        second = build_cold(checkout, TARGETS, PACKAGES, *options, jobs=2)
    return {"sandboxed, one job": first, "local, two jobs": second}


@pytest.fixture(scope="session")
def one_clone(cold_builds: Mapping[str, ColdBuild], full_cache: Path) -> Iterator[Clone]:
    """A clone elsewhere, at another user's; what it records goes to the test's outputs."""
    assert cold_builds
    with _checkout("clone", "planted-user-three", {}) as checkout:
        clone = Clone(checkout, full_cache)
        yield clone
        outputs = os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR")
        if outputs:
            Path(outputs, "changes.md").write_text(markdown(clone.table), encoding="utf-8")


@pytest.fixture
def clone(one_clone: Clone) -> Clone:
    """The clone, with a cache that holds what the first cold build stored, and no more."""
    one_clone.refill()
    return one_clone
