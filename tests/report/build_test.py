"""The page of a target that the report builds by itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import report
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))


@pytest.fixture(name="output_base", scope="module")
def _output_base() -> Iterator[str]:
    """An option of Bazel: where its outputs go; its server ends with the tests."""
    option = f"--output_base={os.environ['TEST_TMPDIR']}/base"
    yield option
    command = [str(ROOT / "bazelw"), option, "shutdown"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def run(target: str, output_base: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs the report as `bazel run` does."""
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(ROOT))
    return report.main([f"--target={target}", "--cuda_archs=8.0", output_base, f"--out={out}"])


def test_a_target_is_built_and_its_kernels_have_figures(
    output_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page.html"
    assert run("//tests/cache/subject:kernels", output_base, out, monkeypatch) == 0
    page = out.read_text(encoding="utf-8")
    assert "2 kernels" in page
    seconds = re.findall(r"<td>sm80_kernel_\w+</td>.*?>(\d+\.\d+)<", page)
    assert len(seconds) == 2 and all(float(number) > 0 for number in seconds)
    assert {"plot-seconds", "plot-timeline", "plot-registers"} <= set(
        re.findall(r'id="(plot-[a-z]+)" class="plotly-graph-div"', page)
    )


def test_a_target_without_kernels_is_refused(
    output_base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "page.html"
    assert run("//csrc/marlin_moe:moe_gemm", output_base, out, monkeypatch) == 1
    said = capsys.readouterr().err
    assert "//csrc/marlin_moe:moe_gemm is not a marlin_moe_kernels target" in said
    assert not out.exists()
