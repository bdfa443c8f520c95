"""The READMEs and docs/**/*.md: their commands run, or Bazel and the scripts know them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bazel_command import own_server, refusal
from markdown import Block, blocks, files, words
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "python/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
# Its flags and targets are the reader's; those in docs/ci have tests in //tests/remote.
REMOTE_CACHING = ROOT / "docs/remote-caching.md"
GETTING_STARTED = ROOT / "docs/getting-started.md"
# What a line of a block may start with that is a command.
_COMMAND = re.compile(
    r"(\(cd \S+ && )?([A-Z_]+=\S+ )*"
    r"(\S*bazelw?|python3?|pip|jq|compute-sanitizer|\.ci/run|nvidia-smi)\s"
)
_BAZEL = ("bazel", "./bazelw", "../../bazelw")


def sh_blocks() -> list[Block]:
    return [b for document in DOCUMENTS for b in blocks(document) if b.language == "sh"]


def identify(block: Block) -> str:
    return f"{block.document.relative_to(ROOT)}:{block.line}"


def in_a_module(document: Path) -> bool:
    """Whether a document's commands run in the module that it tells its reader to make."""
    return "BUILD.bazel" in files(document)


RUN_IN_MODULE = [b for b in sh_blocks() if in_a_module(b.document) and not b.not_run]


@pytest.fixture(scope="module")
def tree() -> Iterator[list[str]]:
    """A Bazel command for the source tree."""
    with own_server(ROOT, ROOT) as command:
        yield command


def make_module(document: Path, folder: Path) -> Path:
    """Makes the module of a document, out of getting-started.md where the document has no file."""
    module = folder / "my_model"
    module.mkdir()
    (folder / "marlin_moe_kernels").symlink_to(ROOT)
    for name, content in {**files(GETTING_STARTED), **files(document)}.items():
        (module / name).write_text(content)
    return module


def bazel_parts(command: str) -> tuple[str, list[str], list[str]] | None:
    """Verb, flags and target patterns of a Bazel command; None if it is none."""
    found = words(re.sub(r"^\(cd \S+ && (.*)\)$", r"\1", command))
    if found[0] not in _BAZEL:
        return None
    found = found[: found.index("--")] if "--" in found else found
    rest = [word for word in found[2:] if word != "…"]
    flags = [word for word in rest if word.startswith("-")]
    return found[1], flags, [word for word in rest if not word.startswith("-")]


def is_for_this_tree(block: Block, command: str) -> bool:
    """Whether a command is to be run here, not in a module or against a cache of the reader's."""
    if command.startswith("(cd ") or block.document == REMOTE_CACHING:
        return False
    runs_in_module = in_a_module(block.document) and not block.not_run
    return not runs_in_module or words(command)[0] == "./bazelw"


def script_of(command: str) -> Path | None:
    """The Python script of this repository that a command runs, if it runs one."""
    found = re.search(r"\bpython3? (\S+\.py)\b", command)
    return ROOT / found[1] if found else None


def modules_of(script: Path) -> set[Path]:
    """A script and the modules beside and below it that it imports: any may read its options."""
    found: set[Path] = set()
    unread = {script}
    while unread:
        path = unread.pop()
        found.add(path)
        names = re.findall(r"^(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)
        modules = [script.parent / f"{name.replace('.', '/')}.py" for name in names]
        unread |= {module for module in modules if module.is_file()} - found
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_of_commands_are_marked_as_such(document):
    for block in blocks(document):
        if _COMMAND.match(block.text):
            assert block.language == "sh", identify(block)
        if block.not_run:
            assert block.language == "sh", identify(block)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(document):
    text = document.read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets + re.findall(r'\b(?:src|srcset)="([^"]*)"', text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = document.parent / path if path else document
        assert linked.exists(), f"{document.name} links to {target}"
        if anchor and linked.suffix == ".md":
            content = linked.read_text()
            headings = re.findall(r"^#+ (.*)$", content, re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}
            known |= set(re.findall(r'<a id="([^"]+)">', content))
            assert anchor in known, f"{document.name} links to {target}"


def test_bazel_knows_flags_and_targets_of_every_command_on_this_tree(tree):
    flags, targets = set(), set()
    for block in sh_blocks():
        for command in block.commands():
            parts = bazel_parts(command)
            if parts and is_for_this_tree(block, command):
                verb, given, patterns = parts
                flags |= {(flag, verb) for flag in given}
                targets |= set(patterns) if verb in ("build", "test", "run") else set()
    assert len(flags) >= 3 and len(targets) >= 8
    assert [pair for pair in sorted(flags) if refusal(tree, ROOT, [pair[0]], pair[1])] == []
    query = [*tree, "query", "--output=label", f"set({' '.join(sorted(targets))})"]
    result = subprocess.run(query, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    missing = [*tree, "query", "//:no_such_target"]
    assert subprocess.run(missing, cwd=ROOT, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("block", [b for b in sh_blocks() if b.not_run], ids=identify)
def test_scripts_have_the_options_of_commands_that_are_not_run(block):
    for command in block.commands():
        script = script_of(command)
        if script is None:
            continue
        assert script.is_file(), command
        text = "".join(path.read_text() for path in modules_of(script))
        for option in re.findall(r"(?<=[\s\[])--[a-z][\w-]*", command.partition(".py")[2]):
            assert f'"{option}"' in text, f"{identify(block)}: {script.name} has no {option}"


@pytest.mark.parametrize(
    "block",
    [b for b in sh_blocks() if not b.not_run and not in_a_module(b.document)],
    ids=identify,
)
def test_commands_without_bazel_run(block, tmp_path):
    for folder in ("private", "tools"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for command in block.commands():
        if bazel_parts(command):
            continue
        assert script_of(command), f"{identify(block)}: say why it is not run: {command}"
        arguments = [sys.executable if w[:6] == "python" else w for w in words(command)]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        result = subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        assert result.stdout or any(tmp_path.glob("generated/*.cu")), command


@pytest.mark.parametrize(
    "document", sorted({b.document for b in RUN_IN_MODULE}), ids=lambda path: path.name
)
def test_commands_in_a_module_of_the_readers_run(document, tmp_path):
    module = make_module(document, tmp_path)
    said = ""
    with own_server(ROOT, module) as bazel:
        for block in RUN_IN_MODULE:
            for command in block.commands() if block.document == document else []:
                found = words(command)
                if found[0] != "bazel":
                    continue
                result = subprocess.run(
                    [*bazel, *found[1:]], cwd=module, capture_output=True, text=True, check=False
                )
                assert result.returncode == 0, f"{command}\n{result.stderr}"
                said += result.stdout
    assert (module / "bazel-bin/kernels/manifest.json").is_file()
    if document == GETTING_STARTED:
        assert re.fullmatch(r"(tile of \d+ x \d+, \d+ threads|no kernel: .+)\n", said)
