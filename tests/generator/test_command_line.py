"""gen.py as a program: the same files from a command line and from a spec, and clear refusals."""

import ast
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import gen
import pytest
from marlin_gen.errors import GeneratorError
from marlin_gen.json_files import read_json
from marlin_gen.schemes import table_schemes


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def outputs_of(directory, names):
    return [directory / name for name in names]


@pytest.mark.parametrize("selector", ["switch", "chain"])
def test_spec_and_command_line_give_the_same_bytes(selector, run_gen, write_spec, tmp_path):
    by_archs, by_spec = tmp_path / "archs", tmp_path / "spec"
    result = run_gen("sm_89,8.0", "--out-dir", by_archs, "--selector", selector)
    assert result.returncode == 0, result.stderr
    outputs = outputs_of(by_spec, sorted(contents(by_archs)))
    result = run_gen("--spec", write_spec(selector=selector), "--outputs", *outputs)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert contents(by_spec) == contents(by_archs)


def test_scheme_headers_can_be_left_out(run_gen, write_spec, tmp_path):
    by_archs, by_spec = tmp_path / "archs", tmp_path / "spec"
    result = run_gen("8.0,8.9", "--out-dir", by_archs, "--no-scheme-headers")
    assert result.returncode == 0, result.stderr
    outputs = outputs_of(by_spec, sorted(contents(by_archs)))
    result = run_gen("--spec", write_spec(scheme_headers=False), "--outputs", *outputs)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert contents(by_spec) == contents(by_archs)
    assert not [name for name, text in contents(by_archs).items() if b'.cuh"' in text]


@pytest.mark.parametrize("selector", ["switch", "chain"])
def test_a_fallback_is_in_the_selector_alone(selector, run_gen, write_spec, tmp_path):
    statement = 'CHECK(false, "no \\"kernel\\" {{ for }} <a> & b");'
    plain, by_archs, by_spec = tmp_path / "plain", tmp_path / "archs", tmp_path / "spec"
    options = ("--selector", selector)
    assert run_gen("8.0,8.9", "--out-dir", plain, *options).returncode == 0
    options += ("--selector-fallback", statement)
    result = run_gen("8.0,8.9", "--out-dir", by_archs, *options)
    assert result.returncode == 0, result.stderr
    outputs = outputs_of(by_spec, sorted(contents(by_archs)))
    spec = write_spec(selector=selector, selector_fallback=statement)
    assert run_gen("--spec", spec, "--outputs", *outputs).returncode == 0
    assert contents(by_spec) == contents(by_archs)
    files = contents(by_archs)
    assert files.pop("kernel_selector.h").decode().count(statement) == 1
    assert files.items() <= contents(plain).items()


def test_bytes_do_not_depend_on_the_run(run_gen, tmp_path):
    for name, archs in (("a", "8.0 8.9"), ("b", "sm_89+PTX, 86")):
        assert run_gen(archs, "--out-dir", tmp_path / name).returncode == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not [n for n, t in contents(tmp_path / "a").items() if str(tmp_path).encode() in t]


def test_architectures_may_be_several_arguments(run_gen):
    one = run_gen("8.0,8.9", "--list")
    assert one.stdout == run_gen("8.0", "8.9", "--list").stdout != ""


def test_list_is_aligned_and_complete(run_gen, tmp_path):
    lines = run_gen("8.0,8.9", "--list", cwd=tmp_path).stdout.splitlines()
    assert len(lines) == 1 + 614
    starts = [lines[0].index(name) for name in lines[0].split()]
    assert lines[0].split()[:3] == ["file", "schemes", "a_type"]
    for line in lines:
        assert all(line[start - 1] == " " and line[start] != " " for start in starts[1:])
    assert not list(tmp_path.iterdir())


def test_list_as_json_is_the_manifest(run_gen, tmp_path):
    gen.generate_new_kernels("8.0", tmp_path, schemes=["fp8"])
    result = run_gen("8.0", "--list", "--json", "--schemes", "fp8")
    assert result.stdout == (tmp_path / "manifest.json").read_text()


def test_list_shows_the_kernels_that_pass_every_filter(run_gen, tmp_path):
    command = ["8.0,8.9", "--list", "--json", "--filter", "schemes=awq_int4"]
    kernels = json.loads(run_gen(*command, "--filter", "threads=128").stdout)["instantiations"]
    everything = json.loads(run_gen("8.0,8.9", "--list", "--json").stdout)["instantiations"]
    wanted = [k for k in everything if "awq_int4" in k["schemes"] and k["threads"] == 128]
    assert kernels == wanted
    assert 0 < len(wanted) < len(everything)


def test_list_schemes_names_the_table(run_gen, tables):
    assert run_gen("--list-schemes").stdout.split() == list(table_schemes(tables))


def test_schemes_select_kernels(run_gen):
    result = run_gen("8.0", "--list", "--json", "--schemes", "mxfp4, gptq_int4")
    manifest = json.loads(result.stdout)
    assert manifest["schemes"] == ["gptq_int4", "mxfp4"]
    assert {name for entry in manifest["instantiations"] for name in entry["schemes"]} == {
        "gptq_int4",
        "mxfp4",
    }


def test_clean_alone_removes_our_files_only(run_gen, tmp_path):
    gen.generate_new_kernels("8.0", tmp_path)
    (tmp_path / "mine.cu").write_text("")
    assert run_gen("--clean", "--out-dir", tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.cu"]


def test_bazel_run_writes_where_the_user_is(run_gen, tmp_path, monkeypatch):
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    assert run_gen("8.0", "--out-dir", "out").returncode == 0
    assert (tmp_path / "out" / "manifest.json").is_file()


# Arguments that do not go together, and ones whose value is not allowed, with the message.
WRONG_COMBINATIONS = [
    ([], 'no architectures: give them as in gen.py "8.0,8.9"'),
    (["--list"], "no architectures"),
    ([""], "no architectures"),
    (["8.0", "out", "8.9"], '"out" "8.9": one directory, behind the architectures'),
    (["8.0", "out", "--out-dir", "out"], 'two directories, "out" and "out"'),
    (["8.0", ""], "the directory is empty; the working directory is ."),
    (["8.0", "--out-dir", ""], "the directory is empty"),
    (["--clean", "--out-dir", ""], "the directory is empty"),
    (["--clean", "--schemes", "junk"], "--clean without architectures goes with --out-dir"),
    (["--clean", "--selector", "chain"], "--clean without architectures goes with --out-dir"),
    (["banana", "--list-schemes"], "--list-schemes goes with nothing else"),
    (["--list-schemes", "--list", "8.0"], "--list-schemes goes with nothing else"),
    (["--list-schemes", "--out-dir", "out"], "--list-schemes goes with nothing else"),
    (["8.0", "--json", "--out-dir", "out"], "--json and --filter go with --list"),
    (["8.0", "--filter", "schemes=fp8", "--out-dir", "out"], "--filter go with --list"),
    (["--spec", "spec.json"], "--spec and --outputs go together"),
    (["--outputs", "a.cu"], "--spec and --outputs go together"),
    (["8.0", "--spec", "spec.json", "--outputs", "a.cu"], "--spec and --outputs go together"),
    (
        ["--schemes", "fp8", "--spec", "spec.json", "--outputs", "a.cu"],
        "--spec and --outputs go together, and with nothing else",
    ),
    (["8.0", "--list", "--out-dir", "out"], "--list writes nothing"),
    (["8.0", "out", "--list"], "--list writes nothing"),
    (["8.0", "--list", "--clean"], "--list writes nothing"),
    (["8.0", "--out", "out"], "unrecognized arguments: --out"),
]
WRONG_VALUES = [
    (["8.1", "--out-dir", "out"], 'architectures "8.1": unknown: "8.1"; known: 7.5, 8.0, 8.6'),
    (["8.0", "--out-dir", "out", "--schemes", "int3"], 'quant schemes: unknown: "int3"; known'),
    (["8.0", "--out-dir", "out", "--schemes", ""], "quant schemes: none is named; known: awq"),
    (["7.5", "--out-dir", "out", "--schemes", "mxfp4"], "no kernels: the quant schemes mxfp4"),
    (["8.0", "--out-dir", "out", "--selector", "if"], '"if" is not allowed; allowed: switch'),
    (["8.0", "--out-dir", "out", "--type-namespace", "1"], 'type_namespace = "1" is not allow'),
    (
        ["8.0", "--out-dir", "out", "--selector-fallback", "fail()"],
        'selector_fallback = "fail()" is not allowed; allowed: a C++ statement in one line',
    ),
    (["8.0", "8.1"], 'architectures "8.0 8.1": unknown: "8.1"'),
    (["--clean", "--out-dir", "typo"], "cannot clean typo: there is no such directory"),
    (["8.0", "--kernel-namespace", "class"], 'kernel_namespace = "class" is not allowed'),
    (["8.0", "--kernel-namespace", "a::union"], 'kernel_namespace = "a::union" is not'),
    (["8.0", "--type-namespace", "xor_eq"], 'type_namespace = "xor_eq" is not allowed'),
    (["8.0", "--type-namespace", "a__b"], "without keywords and reserved names"),
    (["8.0", "--kernel-namespace", "_Marlin"], "without keywords and reserved names"),
    (["8.0", "--scheme", "my.json"], "quant scheme file my.json cannot be read: my.json: No"),
    (["8.0", "--list", "--filter", "scheme=fp8"], "a column of file, schemes, a_type,"),
    (["8.0", "--list", "--filter", "threads"], "allowed: COLUMN=VALUE"),
    (["8.0", "--list", "--filter", "threads=64"], "values of threads: 256, 128"),
    (["--spec", "spec.json", "--outputs", "a.cu"], "spec spec.json cannot be read"),
]


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [(2, *case) for case in WRONG_COMBINATIONS] + [(1, *case) for case in WRONG_VALUES],
)
def test_wrong_arguments_are_refused_in_one_line(status, arguments, message, run_gen, tmp_path):
    result = run_gen(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith("gen.py: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_directory_is_named(run_gen, tmp_path):
    (tmp_path / "file").write_text("mine")
    for directory, problem in (("file", "it is not a directory"), ("file/x", "Not a directory")):
        result = run_gen("8.0", directory, cwd=tmp_path)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert problem in result.stderr and "[Errno" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_a_directory_the_files_are_in_the_working_directory(run_gen, tmp_path):
    (tmp_path / "mine.cu").write_text("")
    result = run_gen("8.0,8.9,9.0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    *wrote, summary = result.stdout.splitlines()
    names = {path.name for path in tmp_path.iterdir()} - {"mine.cu"}
    assert {line.removeprefix("wrote ") for line in wrote} == names
    assert summary == f"{len(names)} files in .: {len(names)} written, 0 removed"
    result = run_gen("7.5", cwd=tmp_path)
    assert "removed sm89_kernel_fe4m3fn_u4_float16.cu\n" in result.stdout
    assert run_gen("--clean", cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.cu"]


@pytest.mark.parametrize("archs", [["80;90"], ["8.0;9.0"], ["80", "90"], ["8.0,9.0"]])
def test_the_argument_behind_the_architectures_is_the_directory(archs, run_gen, tmp_path):
    expected = contents(gen.generate_new_kernels("8.0 9.0", tmp_path / "out").files[0].parent)
    assert run_gen(*archs, "there", cwd=tmp_path).returncode == 0
    assert contents(tmp_path / "there") == expected
    assert run_gen("8.0", "./90", "--schemes", "fp8", cwd=tmp_path).returncode == 0
    assert (tmp_path / "90" / "manifest.json").is_file()


@pytest.mark.parametrize(
    "deep",
    ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 9_000],
    ids=["truncated", "closed", "truncated objects"],
)
@pytest.mark.parametrize("option", ["--spec", "--scheme"])
def test_deep_and_truncated_files_are_refused_in_one_line(option, deep, run_gen, tmp_path):
    (tmp_path / "in.json").write_text(deep)
    rest = ["--outputs", "a.cu"] if option == "--spec" else ["8.0"]
    result = run_gen(option, "in.json", *rest, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "in.json cannot be read: " in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.json"]


def test_every_cut_of_a_scheme_file_is_refused_in_one_line(tables, tmp_path):
    text = json.dumps(CUSTOM)
    for length in range(len(text)):
        (tmp_path / "cut.json").write_text(text[:length])
        with pytest.raises(GeneratorError, match=r"^quant scheme file cut\.json cannot be read: ."):
            read_json(tmp_path / "cut.json", "quant scheme file")
    (tmp_path / "cut.json").write_text('{"name": "a", "name": "b"}')
    with pytest.raises(GeneratorError, match='the field "name" is given twice'):
        read_json(tmp_path / "cut.json", "quant scheme file")


def test_a_name_that_the_terminal_cannot_show_is_no_reason_to_fail(run_gen, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run_gen("8.0", "größe", "--schemes", "mxfp4", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 files in gr\\xf6\\xdfe: 3 written" in result.stdout
    result = run_gen("8.0", "--schemes", "größe", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)


def test_output_that_cannot_be_written_is_an_error(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, gen.__file__, "8.0", "--list"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert result.returncode == 1
    assert result.stderr == "gen.py: error: No space left on device\n"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"families": ["sm89", "sm80"]},
            "some of sm75, sm80, sm89, sm90, in this order, each once",
        ),
        ({"families": ["sm70"]}, "families = ['sm70'] is not allowed"),
        ({"families": []}, "families must be a list, not empty"),
        ({"schemes": []}, "schemes must be a list, not empty"),
        ({"schemes": [{"name": "x"}]}, 'quant scheme "x": fields = "name" is not allowed'),
        ({"selector": 1}, "selector must be a string"),
        ({"selector_fallback": None}, "selector_fallback must be a string"),
        (
            {"selector_fallback": "fail();\nbreak;"},
            'selector_fallback = "fail();\\nbreak;" is not allowed; allowed: a C++ statement in',
        ),
        ({"scheme_headers": "no"}, "spec spec.json: scheme_headers must be true or false"),
        ({"scheme_headers": 0}, "spec spec.json: scheme_headers must be true or false"),
        ({"tables": {}}, "tables are not those of this generator: KeyError('ARCHS')"),
        ({"tables": []}, "tables are not those of this generator: TypeError"),
        (
            {"archs": ["8.0"]},
            "must be an object of families, kernel_namespace, scheme_headers, schemes, selector",
        ),
    ],
)
def test_wrong_specs_are_refused(fields, message, run_gen, write_spec, tmp_path):
    result = run_gen("--spec", write_spec(**fields), "--outputs", tmp_path / "out" / "a.cu")
    assert result.returncode == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_scheme_must_not_pass_for_one_of_the_table(run_gen, write_spec, tables, tmp_path):
    false = {**tables.schemes[0], "group_blocks": [2]}
    result = run_gen("--spec", write_spec(schemes=[false]), "--outputs", tmp_path / "out" / "a.cu")
    assert 'name = "awq_int4" is not allowed; allowed: a name that no other' in result.stderr


CUSTOM = {
    "name": "my_int4",
    "a_type": ["kFloat16"],
    "b_type": "kU4",
    "thread_configs": [[128, 64, 128]],
    "thread_m_blocks": [1, 2],
    "group_blocks": [4],
}


def test_custom_schemes_come_from_files(run_gen, write_spec, tables, tmp_path):
    other = {**CUSTOM, "name": "my_int8", "b_type": "kU8B128"}
    for scheme in (CUSTOM, other):
        (tmp_path / f"{scheme['name']}.json").write_text(json.dumps(scheme))
    files = ["--scheme", "my_int4.json", "--scheme", "my_int8.json"]
    lines = run_gen("8.0", *files, "--list", cwd=tmp_path).stdout.splitlines()
    assert len([line for line in lines if " my_int4 " in line]) == 2
    assert len(lines) > 400
    result = run_gen("8.0", "out", *files, "--schemes", "", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out/manifest.json").read_text())["schemes"] == [
        "my_int4",
        "my_int8",
    ]
    shared = {"c_type": [], "s_type": "", "tiles": [[128, 64, 128, [1, 2]]]}
    rows = [
        {**shared, **{k: v for k, v in scheme.items() if not k.startswith("thread_")}}
        for scheme in (CUSTOM, other)
    ]
    spec = write_spec(families=["sm80"], schemes=rows)
    outputs = outputs_of(tmp_path / "by_spec", contents(tmp_path / "out"))
    assert run_gen("--spec", spec, "--outputs", *outputs).returncode == 0
    assert contents(tmp_path / "by_spec") == contents(tmp_path / "out")


@pytest.mark.parametrize(
    ("named", "schemes"),
    [("my_int4", ["my_int4"]), ("fp8", ["fp8", "my_int4"]), ("fp8,my_int4", ["fp8", "my_int4"])],
)
def test_custom_schemes_may_be_named_beside_those_of_the_table(named, schemes, run_gen, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps(CUSTOM))
    options = ["--scheme", "in.json", "--schemes", named]
    result = run_gen("8.0", "--list", "--json", *options, cwd=tmp_path)
    assert json.loads(result.stdout)["schemes"] == schemes
    result = run_gen("8.0", "--list", *options[:3], "my_int3", cwd=tmp_path)
    assert 'unknown: "my_int3"' in result.stderr and result.stderr.endswith(", my_int4\n")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "fp8"}, 'name = "fp8" is not allowed; allowed: a name that no other scheme has'),
        ({"group_blocks": [3]}, "group_blocks = 3 is not allowed; allowed: -1, 0, 1, 2, 4, 8"),
        ({"tiles": "a16"}, 'quant scheme "my_int4": fields = '),
    ],
)
def test_wrong_custom_schemes_are_refused(fields, message, run_gen, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps({**CUSTOM, **fields}))
    result = run_gen("8.0", "out", "--scheme", "in.json", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "in.json").write_text(json.dumps(CUSTOM))
    result = run_gen("8.0", "out", *["--scheme", "in.json"] * 2, cwd=tmp_path)
    assert "a name that no other scheme has" in result.stderr


def test_the_functions_need_no_argument(run_gen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["-c"])
    report = gen.generate_new_kernels()
    assert {path.name for path in report.files} == {path.name for path in tmp_path.iterdir()}
    assert json.loads(Path("manifest.json").read_text())["families"] == ["sm80", "sm89"]
    monkeypatch.setattr(sys, "argv", ["-c", "7.5"])
    gen.generate_new_kernels()
    assert json.loads(Path("manifest.json").read_text())["families"] == ["sm75"]
    gen.remove_old_kernels()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["-c", "banana"])
    with pytest.raises(GeneratorError, match='architectures "banana": unknown'):
        gen.generate_new_kernels()


def test_a_custom_scheme_is_generated(run_gen, write_spec, tmp_path):
    scheme = {
        "name": "my_int4",
        "a_type": ["kFloat16"],
        "b_type": "kU4",
        "c_type": ["kFloat16"],
        "s_type": "",
        "tiles": [[128, 64, 128, [1, 2]]],
        "group_blocks": [4],
    }
    names = ["sm80_kernel_float16_u4_float16.cu", "kernel_selector.h", "manifest.json"]
    outputs = outputs_of(tmp_path / "out", names)
    spec = write_spec(families=["sm80"], schemes=[scheme])
    result = run_gen("--spec", spec, "--outputs", *outputs)
    assert result.returncode == 0, result.stderr
    manifest = json.loads(outputs[2].read_text())
    found = [(e["threads"], e["thread_m_blocks"]) for e in manifest["instantiations"]]
    assert found == [(128, 1), (128, 2)]


def test_outputs_must_be_the_files_of_the_spec(run_gen, write_spec, tables, tmp_path):
    spec = write_spec(families=["sm80"], schemes=[tables.schemes[5]])
    kernels, out = "sm80_kernel_bfloat16_fe2m1f_bfloat16.cu", tmp_path / "out"
    for names, message in (
        ([kernels, "manifest.json"], "not declared: kernel_selector.h; not of this spec: none"),
        (
            [kernels, "kernel_selector.h", "manifest.json", "more.cu"],
            "not declared: none; not of this spec: more.cu",
        ),
        ([kernels, "kernel_selector.h", "manifest.json", "manifest.json"], "each once"),
    ):
        result = run_gen("--spec", spec, "--outputs", *outputs_of(out, names))
        assert result.returncode == 1
        assert message in result.stderr
        assert not out.exists()


def test_outputs_may_lie_in_several_directories(run_gen, write_spec, tables, tmp_path):
    spec = write_spec(families=["sm80"], schemes=[tables.schemes[5]])
    outputs = [
        tmp_path / "a" / "sm80_kernel_bfloat16_fe2m1f_bfloat16.cu",
        tmp_path / "b" / "kernel_selector.h",
        tmp_path / "manifest.json",
    ]
    result = run_gen("--spec", spec, "--outputs", *outputs)
    assert result.returncode == 0, result.stderr
    assert all(path.is_file() for path in outputs)


def test_a_missing_jinja2_is_named(tmp_path):
    command = [sys.executable, "-I", "-S", gen.__file__, "8.0", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("gen.py: error: the package jinja2 is missing; ")
    assert result.stderr.count("\n") == 1


def test_an_old_python_is_named(monkeypatch):
    # What a Python older than 3.10 reads of the file, and what it says about itself.
    monkeypatch.setattr(sys, "hexversion", 0x030911F0)
    monkeypatch.setattr(sys, "version_info", (3, 9, 17, "final", 0))
    # Python 3.6 does not have it.
    monkeypatch.setitem(sys.modules, "dataclasses", None)
    with pytest.raises(SystemExit) as refused:
        runpy.run_path(gen.__file__, run_name="__main__")
    assert refused.value.code == (
        "gen.py: error: this is Python 3.9.17; run it with Python 3.10 or newer"
    )


def test_python_2_can_read_the_program():
    program = ast.parse(Path(gen.__file__).read_text(encoding="ascii"))
    # Python 2 has functions and classes, but not all that these may have.
    newer = (ast.AnnAssign, ast.ClassDef, ast.FunctionDef, ast.JoinedStr, ast.NamedExpr)
    newer += (ast.Nonlocal, ast.Raise, ast.Starred, ast.YieldFrom)
    assert not [node for node in ast.walk(program) if isinstance(node, newer)]
