"""gen.py as a program: the same files from a command line and from a spec, and clear refusals."""

import json

import gen
import pytest
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
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
        (["8.0"], "no --out-dir"),
        ([], "no architectures"),
        (["--clean"], "no architectures"),
        (["8.0", "--json", "--out-dir", "out"], "--json and --filter go with --list"),
        (["8.0", "--filter", "schemes=fp8", "--out-dir", "out"], "--filter go with --list"),
        (["8.0", "--list", "--filter", "scheme=fp8"], "a column of file, schemes, a_type,"),
        (["8.0", "--list", "--filter", "threads"], "allowed: COLUMN=VALUE"),
        (["8.0", "--list", "--filter", "threads=64"], "values of threads: 256, 128"),
        (["--spec", "spec.json"], "--spec and --outputs go together"),
        (["--outputs", "a.cu"], "--spec and --outputs go together"),
        (["8.0", "--spec", "spec.json", "--outputs", "a.cu"], "--spec and --outputs go together"),
        (
            ["--schemes", "fp8", "--spec", "spec.json", "--outputs", "a.cu"],
            "--spec and --outputs go together, and with nothing else",
        ),
        (["--spec", "spec.json", "--outputs", "a.cu"], "spec spec.json cannot be read"),
        (["8.0", "--list", "--out-dir", "out"], "--list and --list-schemes write nothing"),
        (["8.0", "--list", "--clean"], "--list and --list-schemes write nothing"),
        (["8.0", "--out", "out"], "unrecognized arguments: --out"),
    ],
)
def test_wrong_arguments_are_refused_in_one_message(arguments, message, run_gen, tmp_path):
    result = run_gen(*arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"families": ["sm89", "sm80"]}, "some of sm75, sm80, sm89, in this order, each once"),
        ({"families": ["sm90"]}, 'families = ["sm90"] is not allowed'),
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
