"""The page holds what its inputs say, once and whole, and needs no network."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import report
from build import full_label
from errors import InputError

FILE = "sm80_kernel_bfloat16_fe2m1f_bfloat16"


def run(out: Path, inputs: dict[str, Path]) -> int:
    named = [f"--{name}={path}" for name, path in inputs.items()]
    return report.main([*named, f"--out={out}"])


def plots(page: str) -> list[str]:
    return re.findall(r'id="(plot-[a-z]+)" class="plotly-graph-div"', page)


def without_library(page: str) -> str:
    """The page without Plotly itself, which is the one script of more than a megabyte."""
    return re.sub(r"<script[^>]*>.{1000000,}?</script>", "", page, flags=re.DOTALL)


def test_page_shows_kernels_seconds_timeline_and_roofline(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    assert run(tmp_path / "page.html", inputs) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    body = without_library(page)
    assert "10 kernels" in body
    assert re.search(rf"<td>{FILE}</td>.*?>7\.0*<", body)
    assert {"plot-schemes", "plot-seconds", "plot-timeline", "plot-roofline"} <= set(plots(page))
    assert body.count('"bf16_mxfp4_g32"') > 0


def test_page_asks_the_network_for_nothing(tmp_path: Path, inputs: dict[str, Path]) -> None:
    assert run(tmp_path / "page.html", inputs) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)="(?!data:)""", page)


def test_equal_inputs_give_equal_pages(tmp_path: Path, inputs: dict[str, Path]) -> None:
    assert run(tmp_path / "a.html", inputs) == run(tmp_path / "b.html", inputs) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_what_is_not_given_leaves_a_sentence(tmp_path: Path, inputs: dict[str, Path]) -> None:
    assert run(tmp_path / "page.html", {"bench": inputs["bench"]}) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert plots(page) == ["plot-roofline"]
    assert without_library(page).count('class="missing"') > 2


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("//:kernels", "//:kernels"),
        ("//a/b", "//a/b:b"),
        ("//a/b:c", "//a/b:c"),
        ("@other//:kernels", "@other//:kernels"),
    ],
)
def test_labels_are_understood(given: str, full: str) -> None:
    assert full_label(given) == full


@pytest.mark.parametrize("wrong", ["kernels", ":kernels", "//", "//:", "//a/", "//a/:b", "//a b"])
def test_what_is_no_label_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match="is not a label such as"):
        full_label(wrong)


@pytest.mark.parametrize("runner", ["disk cache hit", "remote cache hit"])
def test_compiles_out_of_a_cache_have_no_seconds(
    runner: str, tmp_path: Path, inputs: dict[str, Path]
) -> None:
    compiled = json.loads(inputs["log"].read_text(encoding="utf-8"))
    hit = {**compiled, "cacheHit": True, "runner": runner}
    inputs["log"].write_text(json.dumps(hit), encoding="utf-8")
    assert run(tmp_path / "page.html", inputs) == 0
    body = without_library((tmp_path / "page.html").read_text(encoding="utf-8"))
    (sentence,) = re.findall(r'id="seconds">.*?class="missing">([^<]*)<', body, re.DOTALL)
    assert f"every compile of //csrc/marlin_moe:kernels in the log ({runner})" in sentence
    assert "--disk_cache= --noremote_accept_cached" in sentence


@pytest.mark.parametrize("name", ["manifest", "log", "bench"])
def test_bad_input_is_named_and_the_old_page_stays(
    name: str, tmp_path: Path, inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    out.write_text("old", encoding="utf-8")
    inputs[name].write_text("{", encoding="utf-8")
    assert run(out, inputs) == 1
    assert inputs[name].name in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in tmp_path.glob("*page.html*")) == ["page.html"]
