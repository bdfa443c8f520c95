"""Changes modules a little, many times, and tells which changes no test notices.

    pip install --require-hashes -r tests/mutation/requirements_lock.txt
    python3 tests/mutation/run.py _function layer

The modules are those of MODULES; without a name, all of them. Each is changed by cosmic-ray in a
copy of the tree, one change at a time, and the module's tests run after each. It takes hours for
all. What survives is printed, and docs/testing.md says of each survivor known why it does. Exit
status 1 if something survives.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("python", "tests", "tools", "private")
_LIBRARIES = {"MARLIN_MOE_STUB": "libmarlin_moe_ffi_stub.so", "MARLIN_MOE_RELEASE": "librelease.so"}
# What cannot change anything: unions in annotations, which are never evaluated.
_EXCLUDED = ("core/ReplaceBinaryOperator_BitOr_.*",)
_SECONDS = 60.0  # for the tests after one change

# Modules, and the tests that are to notice changes in them. Those of marlin_moe.torch and
# marlin_moe._jax need a GPU (tests/gpu/run_frameworks.py), those of _library the wheel.
MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        name: (f"python/marlin_moe/{name}.py", tests)
        for name, tests in {
            "_arrays": ("python/test_checkpoints",),
            "_function": ("python/test_calls",),
            "_tuning_file": ("python/test_tuning",),
            "activations": ("python/test_marshalling", "python/test_calls"),
            "align": ("python/test_marshalling", "python/test_calls"),
            "gemm": ("python/test_marshalling", "python/test_calls"),
            "layer": ("python/test_layer", "python/test_tuning"),
            "prepare": ("python/test_marshalling", "python/test_calls"),
            "tuning": ("python/test_tuning",),
            "vllm": ("python/test_vllm",),
            "weights": ("python/test_marshalling", "python/test_calls", "python/test_checkpoints"),
        }.items()
    },
    **{
        f"checkpoints.{path.stem}": (
            f"python/marlin_moe/checkpoints/{path.name}",
            ("python/test_checkpoints",),
        )
        for path in sorted((_ROOT / "python/marlin_moe/checkpoints").glob("[a-z]*.py"))
    },
    **{
        f"marlin_gen.{path.stem}": (f"tools/marlin_gen/marlin_gen/{path.name}", ("generator",))
        for path in sorted((_ROOT / "tools/marlin_gen/marlin_gen").glob("[a-z]*.py"))
    },
}


def copy_tree(to: Path) -> dict[str, str]:
    """Copies what the tests need; returns the environment to run them in."""
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache", "bazel-*")
    for folder in _FOLDERS:
        shutil.copytree(_ROOT / folder, to / folder, ignore=ignored)
    shutil.copy(_ROOT / "pyproject.toml", to)
    targets = [f"//tests/python:{name}" for name in _LIBRARIES.values()]
    subprocess.run([_ROOT / "bazelw", "build", *targets], cwd=_ROOT, check=True)
    environment = dict(os.environ)
    for variable, name in _LIBRARIES.items():
        shutil.copy(_ROOT / "bazel-bin/tests/python" / name, to)
        environment[variable] = str(to / name)
    paths = ("python", "tests/python", "tests/gpu", "tools/marlin_gen")
    environment["PYTHONPATH"] = os.pathsep.join(str(to / path) for path in paths)
    return environment


def survivors(tree: Path, environment: dict[str, str], module: str) -> tuple[int, list[str]]:
    """Returns how many changes were made in a module, and the differences that survived."""
    source, tests = MODULES[module]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib"]
    command += [f"tests/{test}" if test == "generator" else f"tests/{test}.py" for test in tests]
    subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    config, session = tree / f"{module}.toml", tree / f"{module}.sqlite"
    config.write_text(
        f"""[cosmic-ray]
module-path = "{source}"
timeout = {_SECONDS}
excluded-modules = []
test-command = "{" ".join(command)}"

[cosmic-ray.distributor]
name = "local"

[cosmic-ray.filters.operators-filter]
exclude-operators = {json.dumps(_EXCLUDED)}
""",
        "utf-8",
    )
    for step in (
        ["cosmic-ray", "init", config, session],
        ["cr-filter-operators", session, config],
        ["cosmic-ray", "exec", config, session],
    ):
        subprocess.run(step, cwd=tree, env=environment, check=True)
    dumped = subprocess.run(
        ["cosmic-ray", "dump", session], cwd=tree, check=True, capture_output=True, text=True
    )
    results = [result for _, result in map(json.loads, dumped.stdout.splitlines()) if result]
    ran = [result for result in results if result["worker_outcome"] == "normal"]
    return len(ran), [result["diff"] for result in ran if result["test_outcome"] == "survived"]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    options = parser.parse_args(argv)
    unknown = [name for name in options.modules if name not in MODULES]
    if unknown:
        parser.error(f"MODULE = {unknown[0]} is not allowed; allowed: {', '.join(MODULES)}")
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        environment = copy_tree(tree)
        for module in options.modules or MODULES:
            ran, differences = survivors(tree, environment, module)
            alive += len(differences)
            for difference in differences:
                print(difference)
            print(f"{module}: {ran} changes, {len(differences)} survived", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
