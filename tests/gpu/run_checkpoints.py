"""MoE layers from checkpoints of every format on a GPU, with tensors of PyTorch.

    run_checkpoints.py --library libmarlin_moe_ffi.so [--out results.json]

It needs PyTorch, apache-tvm-ffi, ml_dtypes and safetensors. For each format, checkpoint_writers
writes gate, up and down; the package prepares them and runs the layer. The result is compared with
PyTorch in float32, with the weights that the writer says it wrote, and so is PyTorch in the
layer's type. Exit status 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoint_writers as writers
import ml_dtypes
import numpy as np
import safetensors.torch
import torch
from checkpoint_writers import Shape, Written
from driver_options import results_file, write_results
from run_python import Errors, Tokens, compare, load_package

_TORCH_TYPES = {"kFloat16": torch.float16, "kBFloat16": torch.bfloat16}
# Mean error, as a share of the root mean square of the right results, by the activations' type.
_MOST_MEAN = {None: 0.01, "kS8": 0.03, "kFE4M3fn": 0.06}
# Times the mean error of PyTorch in the layer's type, which rounds at the same places.
_MOST_TIMES_TORCH = 2.0
_EXPERTS, _TOP_K = 16, 4


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Copies to the GPU, types that NumPy has from ml_dtypes by their bits."""
    array = np.ascontiguousarray(array)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).cuda()
    if array.dtype == ml_dtypes.float8_e4m3fn:
        return torch.from_numpy(array.view(np.uint8)).view(torch.float8_e4m3fn).cuda()
    return torch.from_numpy(array).cuda()


def tensors_of(written: Written) -> dict[str, torch.Tensor]:
    return {name: to_torch(tensor) for name, tensor in written.tensors.items()}


@dataclass(frozen=True)
class Case:
    """A layer of one format.

    Attributes:
      write: writes a projection, from a generator and a shape.
      load: name of the function of ExpertWeights, which gets the writer's options as well.
      group: rows that share a scale.
      options: for that function.
      hidden: hidden size.
      inner: intermediate size.
      fused: how gate and up are in one tensor; None: they are two.
    """

    write: Callable[[np.random.Generator, Shape], Written]
    load: str
    group: int = 128
    options: dict[str, Any] = field(default_factory=dict)
    hidden: int = 1024
    inner: int = 512
    fused: str | None = None

    @property
    def a_type(self) -> str | None:
        return self.options.get("a_type")

    @property
    def dtype(self) -> torch.dtype:
        return _TORCH_TYPES[self.options.get("c_type", "kBFloat16")]


def writer(function: Callable[..., Written], **options: Any) -> Any:
    return lambda rng, shape: function(rng, shape, **options)


def ordered_gptq(rng: np.random.Generator, shape: Shape) -> Written:
    """Act-order that depends on the shape alone: gate and up have the same."""
    groups = np.broadcast_to(shape.row_groups, (shape.experts, shape.k))
    shuffled = np.random.default_rng(shape.k).permuted(groups, axis=1)
    return writers.gptq(rng, shape, row_groups=shuffled)


def nvfp4(divides: bool) -> Any:
    def write(rng: np.random.Generator, shape: Shape) -> Written:
        size = 2.0 ** round(np.log2(1 / (2.9 * 40 * shape.k**0.5)))
        scales = np.full(shape.experts, size, np.float32)
        return writers.nvfp4(rng, shape, divides=divides, global_scales=scales)

    return write


_GPTQ, _AWQ = writer(writers.gptq, bias=True), writer(writers.awq)
_MXFP4 = writer(writers.mxfp4)
_BITS8: dict[str, Any] = {"bits": 8}
_INTS, _FP8 = "from_compressed_tensors", "from_fp8"
_SHARD: dict[str, Any] = {"group": 32, "inner": 96}

CASES: dict[str, Case] = {
    "GPTQ": Case(_GPTQ, "from_gptq"),
    "GPTQ, float16": Case(_GPTQ, "from_gptq", options={"c_type": "kFloat16"}),
    "GPTQ, groups of 32": Case(_GPTQ, "from_gptq", group=32),
    "GPTQ, columns": Case(_GPTQ, "from_gptq", group=-1),
    "GPTQ, act-order": Case(ordered_gptq, "from_gptq"),
    "GPTQ version 2": Case(
        writer(writers.gptq, checkpoint_format="gptq_v2"),
        "from_gptq",
        options={"checkpoint_format": "gptq_v2"},
    ),
    "GPTQ, asymmetric": Case(writer(writers.gptq, sym=False), "from_gptq"),
    "GPTQ, 8 bits": Case(writer(writers.gptq, bits=8), "from_gptq", options=_BITS8),
    "GPTQ, int8 activations": Case(_GPTQ, "from_gptq", options={"a_type": "kS8"}),
    "GPTQ, FP8 activations": Case(_GPTQ, "from_gptq", options={"a_type": "kFE4M3fn"}),
    "GPTQ, a shard": Case(_GPTQ, "from_gptq", **_SHARD),
    "AWQ": Case(_AWQ, "from_awq"),
    "AWQ, float16, groups of 64": Case(_AWQ, "from_awq", group=64, options={"c_type": "kFloat16"}),
    "AWQ, int8 activations": Case(_AWQ, "from_awq", options={"a_type": "kS8"}),
    "AWQ, FP8 activations": Case(_AWQ, "from_awq", options={"a_type": "kFE4M3fn"}),
    "AWQ, a shard": Case(_AWQ, "from_awq", **_SHARD),
    "AWQ, a shard, FP8 activations": Case(
        _AWQ, "from_awq", options={"a_type": "kFE4M3fn"}, **_SHARD
    ),
    "FP8": Case(writer(writers.fp8, extent="tensor"), _FP8),
    "FP8, columns, float16": Case(
        writer(writers.fp8, extent="channel"), _FP8, options={"c_type": "kFloat16"}
    ),
    "FP8, blocks": Case(writer(writers.fp8, extent="block", scale_name="weight_scale_inv"), _FP8),
    "FP8, ragged blocks": Case(writer(writers.fp8, extent="block"), _FP8, inner=320),
    "MXFP4, gate and up alternate": Case(_MXFP4, "from_mxfp4", group=32, fused="interleaved"),
    "MXFP4, FP8 activations": Case(_MXFP4, "from_mxfp4", group=32, options={"a_type": "kFE4M3fn"}),
    "MXFP4, a shard": Case(_MXFP4, "from_mxfp4", **_SHARD),
    "NVFP4, ModelOpt": Case(nvfp4(False), "from_nvfp4", group=16),
    "NVFP4, ModelOpt, float16": Case(
        nvfp4(False), "from_nvfp4", group=16, options={"c_type": "kFloat16"}
    ),
    "NVFP4, compressed-tensors": Case(nvfp4(True), "from_nvfp4", group=16),
    "integers of 4 bits": Case(writer(writers.packed_integers), _INTS),
    "integers of 4 bits with zeros": Case(writer(writers.packed_integers, sym=False), _INTS),
    "integers of 8 bits": Case(writer(writers.packed_integers, bits=8), _INTS),
    "bytes": Case(writer(writers.int8_bytes), _INTS, group=-1),
}


@dataclass(frozen=True)
class Dense:
    """A projection as float32 on the GPU."""

    weights: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def of(cls, written: Written) -> Dense:
        bias = None if written.bias is None else torch.from_numpy(written.bias).cuda().float()
        return cls(torch.from_numpy(written.weights).cuda().float(), bias)

    def apply(self, x: torch.Tensor, expert: int, dtype: torch.dtype) -> torch.Tensor:
        result = (x.to(dtype) @ self.weights[expert].to(dtype)).float()
        return result if self.bias is None else result + self.bias[expert]


class Layer:
    """A layer as the writer means it, and as the package prepared it."""

    def __init__(self, package: Any, case: Case, seed: int) -> None:
        rng = np.random.default_rng(seed)
        outer = Shape(_EXPERTS, case.hidden, case.inner, case.group)
        inner = Shape(_EXPERTS, case.inner, case.hidden, case.group)
        down = case.write(rng, inner)
        if case.fused is None:
            parts = [case.write(rng, outer), case.write(rng, outer)]
            gate_up: Any = [tensors_of(part) for part in parts]
            self.parts = [Dense.of(part) for part in parts]
        else:
            both = case.write(rng, Shape(_EXPERTS, case.hidden, 2 * case.inner, case.group))
            parts = [both]
            gate_up = tensors_of(both)
            dense = Dense.of(both)
            biases = [None, None] if dense.bias is None else [dense.bias[:, i::2] for i in (0, 1)]
            self.parts = [Dense(dense.weights[..., i::2], biases[i]) for i in (0, 1)]
        self.down = Dense.of(down)
        load = getattr(package.ExpertWeights, case.load)
        options = {**case.options, **down.options}
        self.prepared = (
            load(gate_up, gate_up=case.fused, **options),
            load(tensors_of(down), **options),
        )
        self.run = package.MoeLayer(*self.prepared)

    def reference(self, tokens: Tokens, dtype: torch.dtype) -> torch.Tensor:
        out = torch.zeros(tokens.x.shape, dtype=torch.float32, device="cuda")
        for expert in sorted(set(tokens.ids.flatten().tolist())):
            token, choice = torch.nonzero(tokens.ids == expert, as_tuple=True)
            x = tokens.x[token]
            gate, up = (part.apply(x, expert, dtype) for part in self.parts)
            inner = (torch.nn.functional.silu(gate) * up).to(dtype)
            result = self.down.apply(inner, expert, dtype)
            weighted = result * tokens.weights[token, choice].unsqueeze(1)
            out.index_add_(0, token, weighted.to(dtype).float())
        return out


def make_tokens(m: int, hidden: int, dtype: torch.dtype) -> Tokens:
    x = torch.randn((m, hidden), device="cuda").to(dtype)
    weights, ids = torch.topk(torch.softmax(torch.randn((m, _EXPERTS), device="cuda"), -1), _TOP_K)
    return Tokens(x, weights.contiguous(), ids.to(torch.int32).contiguous())


def check_case(package: Any, name: str, case: Case) -> Iterator[tuple[str, bool, str]]:
    """Yields name, outcome and figures of a case's checks."""
    layer = Layer(package, case, seed=sum(map(ord, name)))
    for m in (1, 40, 300):
        tokens = make_tokens(m, case.hidden, case.dtype)
        right = layer.reference(tokens, torch.float32)
        peer = compare(layer.reference(tokens, case.dtype), right)
        got = compare(layer.run(tokens.x, tokens.weights, tokens.ids), right)
        fine = got.mean <= _MOST_MEAN[case.a_type] and got.largest <= 20 * _MOST_MEAN[case.a_type]
        if case.a_type is None:
            fine = fine and got.mean <= _MOST_TIMES_TORCH * peer.mean
        yield f"{name}, {m} tokens", fine, f"{_figures(got)}; PyTorch {_figures(peer)}"
    # One row of one expert off by one scale's worth is within the bounds; a wrong column is not.
    wrong = compare(layer.reference(tokens, torch.float32).roll(1, 1), right)
    yield f"{name}, a wrong result is noticed", wrong.mean > 0.2, _figures(wrong)


def check_file(package: Any) -> Iterator[tuple[str, bool, str]]:
    """Yields the check that a file gives the same layer as its tensors."""
    case = CASES["GPTQ"]
    rng = np.random.default_rng(5)
    gate, up = (
        case.write(rng, Shape(_EXPERTS, case.hidden, case.inner, case.group)) for _ in range(2)
    )
    named = {
        f"layers.0.experts.{expert}.{projection}.{key}": tensor[expert].clone()
        for projection, part in (("gate_proj", gate), ("up_proj", up))
        for key, tensor in tensors_of(part).items()
        for expert in range(_EXPERTS)
    }
    with tempfile.TemporaryDirectory() as folder:
        safetensors.torch.save_file(named, Path(folder) / "model.safetensors")
        read = package.read_experts(
            folder,
            "layers.0.experts.{expert}.{projection}.{tensor}",
            projections=["gate_proj", "up_proj"],
        )
    ours = package.ExpertWeights.from_gptq(read)
    theirs = package.ExpertWeights.from_gptq([tensors_of(gate), tensors_of(up)])
    for name in ("b", "scales", "bias"):
        same = bool(torch.equal(getattr(ours, name), getattr(theirs, name)))
        yield f"a file, the same {name}", same, str(tuple(getattr(ours, name).shape))


def _figures(errors: Errors) -> str:
    return f"mean error {errors.mean:.5f}, largest {errors.largest:.4f} (of the rms)"


def run_checks(package: Any) -> list[dict[str, Any]]:
    """Runs and prints all checks; returns them. What is raised is a failure."""
    checks = []

    def note(name: str, fine: bool, detail: str) -> None:
        print(f"{'ok  ' if fine else 'FAIL'} {name}: {detail}", flush=True)
        checks.append({"name": name, "fine": fine, "detail": detail})

    for name, case in CASES.items():
        try:
            for check in check_case(package, name, case):
                note(*check)
        except Exception as error:
            note(name, False, f"{type(error).__name__}: {error}")
    for check in check_file(package):
        note(*check)
    return checks


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libmarlin_moe_ffi.so")
    parser.add_argument("--out", type=results_file, help="file for all results, JSON")
    options = parser.parse_args(argv)
    package = load_package(options.library)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    checks = run_checks(package)
    failed = [check["name"] for check in checks if not check["fine"]]
    device = torch.cuda.get_device_name()
    print(
        f"{device}, torch {torch.__version__}: {len(checks)} checks, {len(failed)} failed {failed}"
    )
    if options.out:
        summary = {"device": device, "torch": torch.__version__, "checks": checks}
        write_results(options.out, summary)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
