"""Inputs of a page: a manifest, a log of one compile and a benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from marlin_gen.render import kernels_of, manifest
from marlin_gen.spec import spec_for_archs
from marlin_gen.tables import load_tables

FILE = "sm80_kernel_bfloat16_fe2m1f_bfloat16"

# Two points on one side of the ridge and one on the other.
BENCH: dict[str, Any] = {
    "machine": {"device": "a GPU", "copy_gb_s": 3000.0, "matmul_tflop_s": 750.0},
    "points": [
        {
            "layer": "down",
            "case": "bf16_mxfp4_g32",
            "m": m,
            "us": us,
            "weight_gb_s": 2000.0 / m,
            "tflop_s": 5.0 * m,
            "peer_us": None,
        }
        for m, us in ((1, 30.0), (16, 80.0), (64, 120.0))
    ],
}


def spawn(mnemonic: str, output: str, start: int, seconds: int) -> dict[str, Any]:
    """An entry of an execution log, as Bazel writes it."""
    digest = {"hash": "00", "sizeBytes": "1000", "hashFunctionName": "SHA-256"}
    return {
        "commandArgs": ["tool"],
        "environmentVariables": [],
        "platform": {"properties": []},
        "inputs": [],
        "listedOutputs": [output],
        "mnemonic": mnemonic,
        "actualOutputs": [{"path": output, "digest": digest}],
        "runner": "linux-sandbox",
        "cacheHit": False,
        "targetLabel": "//csrc/marlin_moe:kernels.sm80.fp4_weights",
        "metrics": {
            "executionWallTime": f"{seconds}s",
            "startTime": f"2026-01-01T00:00:{start:02}Z",
        },
    }


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """A manifest, a log of one compile and a benchmark."""
    tables = load_tables()
    spec = spec_for_archs("8.0", tables, schemes=["mxfp4"])
    texts = {
        "manifest": manifest(spec, kernels_of(spec, tables)),
        "log": json.dumps(spawn("CudaCompile", f"bin/{FILE}.pic.o", 3, 7)),
        "bench": json.dumps(BENCH),
    }
    paths = {}
    for name, text in texts.items():
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(text, encoding="utf-8")
    return paths
