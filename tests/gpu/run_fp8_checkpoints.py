"""FP8 checkpoints through the Python package on a GPU: block scales, odd sizes, shards.

    run_fp8_checkpoints.py --library libmarlin_moe_ffi.so [--out results.json]

It needs PyTorch and apache-tvm-ffi, and a library with the kernels of the schemes fp8 and fp8_afp8.
A layer as DeepSeek-V3's checkpoints hold it, with one scale for 128 x 128 weights, is prepared,
padded and run, whole and in shards; PyTorch computes it in float32 from the checkpoint. Exit status
1 if a result is not as it should be, or if wrong scales go unnoticed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from driver_options import results_file, write_results
from run_python import Shape, Tokens, compare, load_package, make_tokens

_BLOCK = 128
# Not a multiple of 128: the last block of rows and of columns is half a one.
_SHAPE = Shape(hidden=1024, intermediate=704, experts=16, top_k=4)
# Mean errors allowed, as a share of the root mean square of the right results. FP8 activations that
# a rounding before them puts on the other side of a step are a twelfth off.
_MOST = {"kFloat16": 0.01, "kBFloat16": 0.01, "kFE4M3fn": 0.03}
# And what wrong scales have to exceed.
_LEAST_WRONG = 0.1


@dataclass(frozen=True)
class Matrix:
    """A matrix of all experts.

    Attributes:
      weights: uint8 [experts, n, k] of e4m3, since not all of PyTorch takes float8_e4m3fn.
      scales: float32 [experts, scales along n, scales along k].
      columns: columns of n that share a scale.
      rows: rows of k that share a scale.
    """

    weights: torch.Tensor
    scales: torch.Tensor
    columns: int
    rows: int

    def dense(self, expert: int) -> torch.Tensor:
        """Returns an expert's weights, float32 [k, n]."""
        n, k = self.weights.shape[1:]
        scales = self.scales[expert].repeat_interleave(self.columns, 0)[:n]
        scales = scales.repeat_interleave(self.rows, 1)[:, :k]
        values = self.weights[expert].view(torch.float8_e4m3fn).to(torch.float32)
        return (values * scales).T

    def cut(self, n: slice, k: slice) -> Matrix:
        """Returns a shard, cut between blocks."""
        along_n = slice(n.start // self.columns, -(-n.stop // self.columns))
        along_k = slice(k.start // self.rows, -(-k.stop // self.rows))
        weights = self.weights[:, n, k].contiguous()
        return replace(self, weights=weights, scales=self.scales[:, along_n, along_k].contiguous())


@dataclass(frozen=True)
class Checkpoint:
    """A layer's matrices; gate and up are side by side in one GEMM."""

    gate: Matrix
    up: Matrix
    down: Matrix

    def shard(self, first: int, last: int) -> Checkpoint:
        """Returns the part of a device that has these of the intermediate columns."""
        own = slice(first, last)
        every = slice(0, self.gate.weights.shape[2])
        return Checkpoint(
            self.gate.cut(own, every), self.up.cut(own, every), self.down.cut(every, own)
        )


def make_matrix(n: int, k: int, columns: int, rows: int, device: str) -> Matrix:
    """Draws a matrix that keeps the size of what it is multiplied with."""
    experts = _SHAPE.experts
    weights = (torch.randn((experts, n, k), device=device) * 100).clamp(-448, 448)
    shape = (experts, -(-n // columns), -(-k // rows))
    scales = (torch.rand(shape, device=device) + 0.5) / (100 * k**0.5)
    return Matrix(weights.to(torch.float8_e4m3fn).view(torch.uint8), scales, columns, rows)


def make_checkpoint(blocks: bool, device: str) -> Checkpoint:
    """Draws a layer with scales for blocks, or for columns."""
    hidden, inner = _SHAPE.hidden, _SHAPE.intermediate
    columns = _BLOCK if blocks else 1
    gate, up = (
        make_matrix(inner, hidden, columns, _BLOCK if blocks else hidden, device) for _ in range(2)
    )
    return Checkpoint(
        gate, up, make_matrix(hidden, inner, columns, _BLOCK if blocks else inner, device)
    )


def prepare(package: Any, checkpoint: Checkpoint, a_type: str, dtype: torch.dtype) -> Any:
    """Returns the MoeLayer of a checkpoint whose scales have a dtype."""
    inner, hidden = checkpoint.gate.weights.shape[1:]
    group_size = _BLOCK if checkpoint.gate.columns == _BLOCK else -1
    types = {"b_type": "kFE4M3fn", "group_size": group_size, "a_type": a_type}
    down = package.padded_shape(hidden, inner, **types)
    both = package.padded_shape(2 * down.k, hidden, **types)
    gate_up = Matrix(
        torch.cat([checkpoint.gate.weights, checkpoint.up.weights], dim=1),
        torch.cat([checkpoint.gate.scales, checkpoint.up.scales], dim=1),
        checkpoint.gate.columns,
        checkpoint.gate.rows,
    )
    return package.MoeLayer(
        _prepare_matrix(package, gate_up, types, dtype, both, 2),
        _prepare_matrix(package, checkpoint.down, types, dtype, down, 1),
    )


def _prepare_matrix(
    package: Any, matrix: Matrix, types: dict[str, Any], dtype: torch.dtype, padded: Any, parts: int
) -> Any:
    c_type = "kFloat16" if types["a_type"] == "kFloat16" else "kBFloat16"
    options = {"padded": padded, "column_parts": parts}
    b = package.repack_rows(
        matrix.weights, b_type=types["b_type"], a_type=types["a_type"], **options
    )
    scales = package.permute_scales(
        matrix.scales.to(dtype),
        **types,
        c_type=c_type,
        columns_first=True,
        columns_per_scale=matrix.columns,
        n=matrix.weights.shape[1],
        **options,
    ).scales
    return package.ExpertWeights(b=b, scales=scales, **types)


def _to_fp8(x: torch.Tensor) -> torch.Tensor:
    """Rounds each row as quantize_activations() does; returns float32."""
    scales = x.abs().amax(dim=1, keepdim=True) / 448
    return (x / scales).to(torch.float8_e4m3fn).to(torch.float32) * scales


def reference(tokens: Tokens, checkpoint: Checkpoint, a_type: str) -> torch.Tensor:
    """Computes the layer in float32, from activations as they are or rounded to FP8."""
    rounded = _to_fp8 if a_type == "kFE4M3fn" else (lambda x: x)
    out = torch.zeros(tokens.x.shape, dtype=torch.float32, device=tokens.x.device)
    for expert in sorted(set(tokens.ids.flatten().tolist())):
        token, choice = torch.nonzero(tokens.ids == expert, as_tuple=True)
        x = rounded(tokens.x[token].to(torch.float32))
        gate, up = x @ checkpoint.gate.dense(expert), x @ checkpoint.up.dense(expert)
        result = rounded(torch.nn.functional.silu(gate) * up) @ checkpoint.down.dense(expert)
        out.index_add_(0, token, result * tokens.weights[token, choice].unsqueeze(1))
    return out


def check(package: Any, m: int, device: str) -> Iterator[tuple[str, bool, float]]:
    """Yields name, outcome and mean error of each check."""
    tokens = make_tokens(_SHAPE, m, device)
    blocks, channels = make_checkpoint(True, device), make_checkpoint(False, device)

    def run(checkpoint: Checkpoint, a_type: str, dtype: torch.dtype) -> torch.Tensor:
        x = tokens.x.to(torch.float16 if a_type == "kFloat16" else torch.bfloat16)
        layer = prepare(package, checkpoint, a_type, dtype)
        out: torch.Tensor = layer(x, tokens.weights, tokens.ids)
        return out.to(torch.float32)

    for a_type in ("kFloat16", "kBFloat16", "kFE4M3fn"):
        right = reference(tokens, blocks, a_type)
        dtypes = (torch.float32,) if a_type == "kFloat16" else (torch.float32, torch.bfloat16)
        for dtype in dtypes:
            error = compare(run(blocks, a_type, dtype), right).mean
            yield f"{a_type} blocks of {dtype}", error <= _MOST[a_type], error
        parts = [blocks.shard(first, min(first + 256, 704)) for first in range(0, 704, 256)]
        total = torch.stack([run(part, a_type, torch.float32) for part in parts]).sum(dim=0)
        error = compare(total, right).mean
        # Each shard rounds its rows to FP8 by its own largest number.
        yield f"{a_type} blocks in 3 shards", error <= 2 * _MOST[a_type], error
        spoilt = replace(blocks, up=replace(blocks.up, scales=blocks.up.scales.roll(1, dims=1)))
        error = compare(run(spoilt, a_type, torch.float32), right).mean
        yield f"{a_type} wrong scales are noticed", error > _LEAST_WRONG, error
    right = reference(tokens, channels, "kBFloat16")
    parts = [channels.shard(first, first + 88) for first in range(0, 704, 88)]
    total = torch.stack([run(part, "kBFloat16", torch.float32) for part in parts]).sum(dim=0)
    error = compare(total, right).mean
    yield "kBFloat16 a scale per column, 8 shards of 88", error <= _MOST["kBFloat16"], error


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libmarlin_moe_ffi.so")
    parser.add_argument("--out", type=results_file, help="file for all results, JSON")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16, 300])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    package = load_package(options.library)
    torch.manual_seed(options.seed)
    torch.backends.cuda.matmul.allow_tf32 = False
    results = []
    for m in options.tokens:
        for name, fine, error in check(package, m, "cuda"):
            text = f"M {m:4} {name}: mean error {error:.5f} (of the rms)"
            print(f"{'ok  ' if fine else 'FAIL'} {text}", flush=True)
            results.append({"m": m, "name": name, "fine": fine, "error": error})
    failed = sum(not result["fine"] for result in results)
    print(f"{torch.cuda.get_device_name()}: {len(results)} checks, {failed} failed")
    if options.out:
        write_results(options.out, results)
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
