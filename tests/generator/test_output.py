"""Files on disk: whole or not at all, never another's, and untouched if nothing changed."""

import os
from pathlib import Path

import gen
import pytest
from marlin_gen import output
from marlin_gen.errors import GeneratorError
from marlin_gen.render import CXX_MARKER, MANIFEST_MARKER


def snapshot(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def generate(directory, archs="8.0", **options):
    return gen.generate_new_kernels(archs, directory, **options)


def test_a_second_run_touches_nothing(tmp_path):
    first = generate(tmp_path)
    before = {path: path.stat() for path in first.files}
    second = generate(tmp_path)
    assert second.written == ()
    assert second.removed == ()
    for path, stat in before.items():
        assert path.stat().st_mtime_ns == stat.st_mtime_ns
        assert path.stat().st_ino == stat.st_ino


def test_only_changed_files_are_written(tmp_path):
    generate(tmp_path)
    report = generate(tmp_path, selector="chain")
    assert [path.name for path in report.written] == ["kernel_selector.h", "manifest.json"]


def test_a_damaged_file_is_written_anew(tmp_path):
    good = generate(tmp_path)
    damaged = good.files[0]
    text = damaged.read_text()
    damaged.write_text(text[: len(text) // 2])
    assert generate(tmp_path).written == (damaged,)
    assert damaged.read_text() == text


def test_stale_files_of_ours_are_removed(tmp_path):
    generate(tmp_path, "7.5")
    report = generate(tmp_path, "8.0")
    assert {path.name[:11] for path in report.removed} == {"sm75_kernel"}
    assert {path.stem.endswith("_2") for path in report.removed} == {True, False}
    assert set(tmp_path.iterdir()) == set(report.files)


@pytest.fixture
def strangers(tmp_path):
    """Files that look like ours but are not, and the other way round."""
    texts = {
        "sm80_kernel_mine.cu": CXX_MARKER + "\n",
        "sm80_kernel_a_b_c.cu": "// mine\n",
        "sm80_kernel_a_b_c_2.cu": "// mine\n",
        "sm80_kernel_a_b_c_2_3.cu": CXX_MARKER + "\n",
        "sm80_kernel_a_b_c_.cu": CXX_MARKER + "\n",
        "sm90_kernel_a_b_c.cu": CXX_MARKER + " Or do.\n",
        "sm70_kernel_a_b_c.cu": "",
        "notes.txt": CXX_MARKER + "\n",
        "manifest.json.bak": MANIFEST_MARKER + "\n",
        "kernel_selector.hpp": CXX_MARKER + "\n",
        "sub/kernel_selector.h": CXX_MARKER + "\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sm86_kernel_a_b_c.cu").mkdir()
    (tmp_path / "sm87_kernel_a_b_c.cu").symlink_to("notes.txt")
    (tmp_path / "sm88_kernel_a_b_c.cu").symlink_to("nowhere")
    return snapshot(tmp_path)


def test_strangers_survive_generation_and_cleaning(tmp_path, strangers):
    report = generate(tmp_path)
    names = {path.name for path in report.files}
    assert report.removed == ()
    assert {n: t for n, t in snapshot(tmp_path).items() if n not in names} == strangers
    assert {path.name for path in gen.remove_old_kernels(tmp_path)} == names
    assert snapshot(tmp_path) == strangers
    assert (tmp_path / "sm86_kernel_a_b_c.cu").is_dir()
    assert (tmp_path / "sm88_kernel_a_b_c.cu").is_symlink()


@pytest.mark.parametrize("name", ["kernel_selector.h", "manifest.json"])
def test_a_stranger_in_the_way_stops_everything(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(GeneratorError, match=rf"not replaced: .*{name}; move it away"):
        generate(tmp_path, clean=True)
    assert snapshot(tmp_path) == {name: b"{}"}


def test_a_directory_or_link_in_the_way_stops_everything(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    (tmp_path / "kernel_selector.h").symlink_to("elsewhere")
    with pytest.raises(GeneratorError, match=r"not replaced: .*selector\.h, .*manifest\.json"):
        generate(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", "kernel_selector.h"}


def test_bad_input_leaves_the_directory_as_it_was(tmp_path):
    generate(tmp_path / "old")
    before = snapshot(tmp_path)
    for options in (
        {"archs": "8.0,banana"},
        {"schemes": ["gptq_int4", "gptq_int3"]},
        {"schemes": []},
        {"archs": "7.5", "schemes": ["mxfp4"]},
        {"selector": "table"},
        {"type_namespace": "a b"},
        {"kernel_namespace": ""},
    ):
        with pytest.raises(GeneratorError):
            generate(tmp_path / "old", clean=True, **options)
        with pytest.raises(GeneratorError):
            generate(tmp_path / "new", **options)
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_write_that_fails_midway_leaves_the_old_files(tmp_path, monkeypatch):
    generate(tmp_path)
    before = snapshot(tmp_path)
    write, calls = Path.write_bytes, []

    def fail_at_the_third(path, content):
        calls.append(path)
        if len(calls) == 3:
            write(path, content[:10])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(output.Path, "write_bytes", fail_at_the_third)
    with pytest.raises(OSError, match="No space left"):
        generate(tmp_path, kernel_namespace="other")
    assert len(calls) == 3
    assert snapshot(tmp_path) == before
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_rename_that_fails_midway_leaves_whole_files_only(tmp_path, monkeypatch):
    old = snapshot(generate(tmp_path).files[0].parent)
    new = snapshot(generate(tmp_path / "new", kernel_namespace="other").files[0].parent)
    replace, calls = os.replace, []

    def fail_at_the_third(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(output.os, "replace", fail_at_the_third)
    with pytest.raises(OSError, match="Input/output"):
        generate(tmp_path, kernel_namespace="other")
    now = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert set(now) == set(old)
    assert [name for name in now if now[name] == new[name]] != []
    assert all(content in (old[name], new[name]) for name, content in now.items())
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"new"}


def test_clean_writes_every_file_anew(tmp_path):
    report = generate(tmp_path)
    again = generate(tmp_path, clean=True)
    assert set(again.removed) == set(report.files)
    assert again.written == report.files


def test_cleaning_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(GeneratorError, match="nowhere: there is no such directory"):
        gen.remove_old_kernels(tmp_path / "nowhere")
    assert set(generate(tmp_path / "new", clean=True).files) == set((tmp_path / "new").iterdir())


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_place_of_the_directory_is_refused(below, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises((GeneratorError, NotADirectoryError)):
        generate(tmp_path / "file" / below)
    assert snapshot(tmp_path) == {"file": b"mine"}
