"""A MoE layer through the Python package on a GPU, with tensors of PyTorch.

    run_python.py --library libmarlin_moe_ffi.so [--out results.json]

It needs PyTorch and apache-tvm-ffi; with CuPy it runs the layer on CuPy's arrays as well.

The layer has the shape of Qwen3-30B-A3B: hidden 2048, intermediate 768, 128 experts, 8 for each
token; weights are GPTQ's int4 with 128 rows per scale, activations bfloat16. What the package
computes is compared with PyTorch in float32, with dequantised weights, and so is PyTorch in
bfloat16. Then the same is asked for in other ways: on another stream, on two streams at once, from
two threads, into the caller's output, with temporary tensors, step by step, from a CUDA graph, as
the sum of two halves of the experts, with arrays of CuPy, with what tune() has measured; where
there are two GPUs, with the layer on the second one while the first is current, and with half of
the experts on each. Exit status 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from driver_options import results_file, write_results

_GROUP = 128
_BITS = 4
_ZERO = 8  # of kU4B8
# Of the errors of single elements, as a share of the root mean square of the right results.
_MOST_MEAN = 0.01
_MOST_LARGEST = 0.1
# Times the mean error of PyTorch in bfloat16, which rounds at the same places.
_MOST_TIMES_TORCH = 2.0


@dataclass(frozen=True)
class Shape:
    """The layer's dimensions."""

    hidden: int = 2048
    intermediate: int = 768
    experts: int = 128
    top_k: int = 8


@dataclass(frozen=True)
class Quantised:
    """Weights of all experts as GPTQ stores them.

    Attributes:
      qweight: int32 [experts, k / 8, n].
      scales: bfloat16 [experts, k / 128, n].
    """

    qweight: torch.Tensor
    scales: torch.Tensor

    def dense(self, expert: int) -> torch.Tensor:
        """Returns an expert's weights, float32 [k, n]."""
        words = self.qweight[expert]
        nibbles = [(words >> (_BITS * i)) & 15 for i in range(8)]
        values = torch.stack(nibbles, dim=1).reshape(8 * words.shape[0], words.shape[1])
        scales = self.scales[expert].to(torch.float32).repeat_interleave(_GROUP, dim=0)
        return (values - _ZERO).to(torch.float32) * scales


@dataclass(frozen=True)
class Tokens:
    """Input and routing.

    Attributes:
      x: bfloat16 [m, hidden].
      weights: float32 [m, top_k], each token's sum to one.
      ids: int32 [m, top_k].
    """

    x: torch.Tensor
    weights: torch.Tensor
    ids: torch.Tensor

    def to(self, device: Any) -> Tokens:
        return Tokens(self.x.to(device), self.weights.to(device), self.ids.to(device))


@dataclass(frozen=True)
class Errors:
    """How far a result is from the right one, in its root mean squares."""

    mean: float
    largest: float

    @property
    def small(self) -> bool:
        return self.mean <= _MOST_MEAN and self.largest <= _MOST_LARGEST


def make_weights(experts: int, k: int, n: int, device: str) -> Quantised:
    """Draws weights that keep the size of what they are multiplied with."""
    words = torch.randint(0, 1 << 32, (experts, k // 8, n), dtype=torch.int64, device=device)
    size = 1 / (4.6 * k**0.5)  # 4.6: root mean square of -8 ... 7
    scales = (torch.rand((experts, k // _GROUP, n), device=device) + 0.5) * size
    return Quantised((words - (1 << 31)).to(torch.int32), scales.to(torch.bfloat16))


def make_tokens(shape: Shape, m: int, device: str) -> Tokens:
    x = torch.randn((m, shape.hidden), device=device).to(torch.bfloat16)
    probabilities = torch.softmax(torch.randn((m, shape.experts), device=device), dim=-1)
    weights, ids = torch.topk(probabilities, shape.top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return Tokens(x, weights.contiguous(), ids.to(torch.int32).contiguous())


def reference(
    tokens: Tokens, gate_up: Quantised, down: Quantised, dtype: torch.dtype
) -> torch.Tensor:
    """Computes the layer with PyTorch, expert by expert, in a dtype; returns float32."""
    out = torch.zeros(tokens.x.shape, dtype=torch.float32, device=tokens.x.device)
    for expert in sorted(set(tokens.ids.flatten().tolist())):
        token, choice = torch.nonzero(tokens.ids == expert, as_tuple=True)
        both = tokens.x[token].to(dtype) @ gate_up.dense(expert).to(dtype)
        gate, up = both.to(torch.float32).chunk(2, dim=-1)
        inner = (torch.nn.functional.silu(gate) * up).to(dtype)
        result = (inner @ down.dense(expert).to(dtype)).to(torch.float32)
        weighted = result * tokens.weights[token, choice].unsqueeze(1)
        out.index_add_(0, token, weighted.to(dtype).to(torch.float32))
    return out


def compare(result: torch.Tensor, right: torch.Tensor) -> Errors:
    """Compares two results; one that is not finite is infinitely far away."""
    difference = (result.to(torch.float32) - right).abs()
    if not bool(torch.isfinite(difference).all()):
        return Errors(float("inf"), float("inf"))
    size = float(right.square().mean().sqrt())
    return Errors(float(difference.mean()) / size, float(difference.max()) / size)


class Layer:
    """The layer as the package takes it, prepared by the package.

    Attributes:
      shape: its dimensions.
      gate_up: weights of GEMM 1 as the checkpoint has them.
      down: those of GEMM 2.
      prepared: both as MoeLayer takes them.
      experts: the prepared layer.
    """

    def __init__(self, package: Any, shape: Shape, device: str) -> None:
        self._package = package
        self.shape = shape
        self.gate_up = make_weights(shape.experts, shape.hidden, 2 * shape.intermediate, device)
        self.down = make_weights(shape.experts, shape.intermediate, shape.hidden, device)
        self.prepared = (self._prepare(self.gate_up), self._prepare(self.down))
        self.experts = package.MoeLayer(*self.prepared)

    def _prepare(self, weights: Quantised) -> Any:
        package = self._package
        b = package.repack_gptq(weights.qweight, b_type="kU4B8")
        scales = package.permute_scales(weights.scales, b_type="kU4B8", group_size=_GROUP).scales
        return package.ExpertWeights(b=b, scales=scales, b_type="kU4B8", group_size=_GROUP)

    def run(self, tokens: Tokens, **options: Any) -> Any:
        return self.experts(tokens.x, tokens.weights, tokens.ids, **options)

    def part(self, first: int, last: int, device: Any) -> tuple[Any, Any]:
        """Returns the prepared weights of some experts, as one of several devices has them."""
        package = self._package
        return tuple(
            package.ExpertWeights(
                b=weights.b[first:last].to(device),
                scales=weights.scales[first:last].to(device),
                b_type="kU4B8",
                group_size=_GROUP,
            )
            for weights in self.prepared
        )


def on_another_stream(layer: Layer, tokens: Tokens) -> torch.Tensor:
    stream = torch.cuda.Stream()
    out = torch.empty_like(tokens.x)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = layer.run(tokens, out=out)
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    if got is not out:
        raise AssertionError("MoeLayer does not return the output that it was given")
    return out


def on_two_streams(layer: Layer, tokens: Tokens) -> torch.Tensor:
    """Many calls that overlap; each stream's results have to be the same every time."""
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    results = []
    torch.cuda.synchronize()
    for _ in range(20):
        for stream in streams:
            with torch.cuda.stream(stream):
                results.append(layer.run(tokens))
    torch.cuda.synchronize()
    return _all_the_same(results)


def from_two_threads(layer: Layer, tokens: Tokens) -> torch.Tensor:
    """Many calls of two threads on one stream."""
    results: list[torch.Tensor] = []

    def work() -> None:
        results.extend(layer.run(tokens) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cuda.synchronize()
    if len(results) != 40:
        raise AssertionError("a thread failed")
    return _all_the_same(results)


def _all_the_same(results: list[torch.Tensor]) -> torch.Tensor:
    """Returns the results' first, or the first that differs from it."""
    first = results[0]
    return next((other for other in results if not torch.equal(first, other)), first)


def of_temporary_tensors(layer: Layer, tokens: Tokens) -> torch.Tensor:
    """The call's tensors are gone when it returns, and their memory is written to after it."""
    out = layer.run(Tokens(tokens.x.clone(), tokens.weights.clone(), tokens.ids.clone()))
    junk = [torch.full_like(tokens.x, float("nan")) for _ in range(8)]
    junk += [torch.full_like(tokens.weights, float("nan")) for _ in range(8)]
    torch.cuda.synchronize()
    del junk
    return out


def from_cupy(layer: Layer, tokens: Tokens) -> torch.Tensor:
    """The steps that have types of CuPy's, with its arrays, stream and allocator."""
    import cupy

    package, shape = layer._package, layer.shape
    gate_up, down = layer.prepared
    size = layer.experts.block_size(*tokens.ids.shape)
    torch.cuda.synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        ids = cupy.from_dlpack(tokens.ids) + cupy.int32(0)
        blocks = package.moe_align(ids, num_experts=shape.experts, block_size=size)
        if not isinstance(blocks.sorted_token_ids, cupy.ndarray):
            raise AssertionError("the results of CuPy's arrays are not CuPy's")
        stream.synchronize()
    both = package.moe_gemm(tokens.x, gate_up, blocks, top_k=shape.top_k)
    rows = package.moe_gemm(
        package.silu_and_mul(both), down, blocks, top_k=1, topk_weights=tokens.weights
    )
    return package.topk_sum(rows, top_k=shape.top_k, topk_ids=tokens.ids, num_experts=shape.experts)


def step_by_step(layer: Layer, tokens: Tokens) -> torch.Tensor:
    package, shape = layer._package, layer.shape
    gate_up, down = layer.prepared
    size = layer.experts.block_size(*tokens.ids.shape)
    blocks = package.moe_align(tokens.ids, num_experts=shape.experts, block_size=size)
    both = package.moe_gemm(tokens.x, gate_up, blocks, top_k=shape.top_k)
    inner = package.silu_and_mul(both)
    rows = package.moe_gemm(inner, down, blocks, top_k=1, topk_weights=tokens.weights)
    return package.topk_sum(rows, top_k=shape.top_k, topk_ids=tokens.ids, num_experts=shape.experts)


class Graph:
    """The layer captured in a CUDA graph, on the stream of torch's that captures."""

    def __init__(self, layer: Layer, tokens: Tokens) -> None:
        self.out = torch.empty_like(tokens.x)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            layer.run(tokens, out=self.out)

    def replay(self) -> None:
        self._graph.replay()


def from_graph(layer: Layer, tokens: Tokens) -> torch.Tensor:
    graph = Graph(layer, tokens)
    graph.out.zero_()
    graph.replay()
    graph.replay()
    torch.cuda.synchronize()
    return graph.out.clone()


def _sum_of_halves(layer: Layer, tokens: Tokens, devices: tuple[Any, Any]) -> torch.Tensor:
    """The sum of two calls, on these devices, that have half of the experts each."""
    experts = layer.shape.experts
    half = experts // 2
    total = torch.zeros(tokens.x.shape, dtype=torch.float32, device=tokens.x.device)
    for device, first, last in ((devices[0], 0, half), (devices[1], half, experts)):
        local = torch.full((experts,), -1, dtype=torch.int32, device=device)
        local[first:last] = torch.arange(last - first, dtype=torch.int32, device=device)
        own = tokens.to(device)
        out = layer._package.fused_moe(
            own.x,
            *layer.part(first, last, device),
            own.weights,
            own.ids,
            num_experts=experts,
            expert_map=local,
        )
        if out.device != own.x.device:
            raise AssertionError(f"the output of tensors on {own.x.device} is on {out.device}")
        total += out.to(tokens.x.device).to(torch.float32)
    return total


def in_two_halves(layer: Layer, tokens: Tokens) -> torch.Tensor:
    return _sum_of_halves(layer, tokens, (tokens.x.device, tokens.x.device))


def on_two_devices(layer: Layer, tokens: Tokens) -> torch.Tensor:
    return _sum_of_halves(layer, tokens, (tokens.x.device, "cuda:1"))


def on_second_device(layer: Layer, tokens: Tokens) -> torch.Tensor:
    """The layer on the second device while the first one is current."""
    experts = layer._package.MoeLayer(*layer.part(0, layer.shape.experts, "cuda:1"))
    own = tokens.to("cuda:1")
    out = experts(own.x, own.weights, own.ids)
    if torch.cuda.current_device() != 0 or out.device != own.x.device:
        raise AssertionError("a call changed the current device, or its output is on another one")
    return out.to(tokens.x.device)


Way = Callable[[Layer, Tokens], torch.Tensor]
# Those that have to give the same bits, and those that round elsewhere.
SAME: dict[str, Way] = {
    "again": lambda layer, tokens: layer.run(tokens),
    "another stream": on_another_stream,
    "two streams": on_two_streams,
    "two threads": from_two_threads,
    "temporary tensors": of_temporary_tensors,
    "step by step": step_by_step,
    "graph": from_graph,
}
OTHER: dict[str, Way] = {"two halves of the experts": in_two_halves}
if torch.cuda.device_count() > 1:
    SAME["second device"] = on_second_device
    OTHER["two devices"] = on_two_devices
if importlib.util.find_spec("cupy"):
    SAME["CuPy"] = from_cupy


def check_tokens(layer: Layer, tokens: Tokens, only: str = "") -> Iterator[tuple[str, bool, str]]:
    """Yields name, outcome and figures of the checks for one number of tokens.

    `only`: of the ways to ask for the layer, those whose name holds this text.
    """
    right = reference(tokens, layer.gate_up, layer.down, torch.float32)
    peer = compare(reference(tokens, layer.gate_up, layer.down, torch.bfloat16), right)
    yield "torch in bfloat16", peer.small, _figures(peer)
    result = layer.run(tokens)
    ours = compare(result, right)
    fine = ours.small and ours.mean <= _MOST_TIMES_TORCH * peer.mean
    yield "MoeLayer", fine, _figures(ours)
    wrong = compare(torch.roll(result, 1, dims=1), right)
    yield "a wrong result is noticed", not wrong.small, _figures(wrong)
    for name, way in SAME.items():
        if only not in name:
            continue
        got = way(layer, tokens)
        torch.cuda.synchronize()
        same = bool(torch.equal(got, result))
        yield f"{name}, the same bits", same, _figures(compare(got, right))
    for name, way in OTHER.items():
        if only not in name:
            continue
        errors = compare(way(layer, tokens), right)
        yield name, errors.small, _figures(errors)


def check_tuned(layer: Layer, tokens: Tokens) -> Iterator[tuple[str, bool, str]]:
    """Yields the check of a layer with the configurations that are measured to be the fastest."""
    package, m = layer._package, tokens.x.shape[0]
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "tuning.json")
        [found] = package.tune(layer.experts, [m], top_k=layer.shape.top_k, file=file)
        tuned = package.MoeLayer(*layer.prepared, tuning=file)
    right = reference(tokens, layer.gate_up, layer.down, torch.float32)
    errors = compare(tuned(tokens.x, tokens.weights, tokens.ids), right)
    times = [found[name] for name in ("microseconds", "built_in_microseconds")]
    fine = errors.small and 0 < times[0] <= times[1]
    yield "tune()", fine, f"{_figures(errors)}; {found}"


def _figures(errors: Errors) -> str:
    return f"mean error {errors.mean:.5f}, largest {errors.largest:.4f} (of the rms)"


def check_refusals(layer: Layer, tokens: Tokens) -> Iterator[tuple[str, bool, str]]:
    """Yields the checks that wrong tensors are refused, by the argument's name."""
    package = layer._package
    x, weights, ids = tokens.x, tokens.weights, tokens.ids
    cases: dict[str, tuple[Tokens, str]] = {
        "int64 ids": (Tokens(x, weights, ids.to(torch.int64)), "topk_ids = dtype int64"),
        "ids on the CPU": (Tokens(x, weights, ids.cpu()), "topk_ids = a tensor on the CPU"),
        "float32 x": (Tokens(x.to(torch.float32), weights, ids), "x = dtype float32"),
        "other hidden size": (Tokens(x[:, :-64], weights, ids), "x = shape"),
        "weights with gaps": (
            Tokens(x, torch.stack([weights, weights], dim=-1)[..., 0], ids),
            "topk_weights = strides",
        ),
        "a gradient": (
            Tokens(x.clone().requires_grad_(True), weights, ids),
            "x = a tensor that requires",
        ),
    }
    for name, (given, message) in cases.items():
        try:
            layer.run(given)
        except package.InvalidArgumentError as error:
            yield f"refused: {name}", str(error).startswith(message), str(error)[:160]
        else:
            yield f"refused: {name}", False, "it was not"


def microseconds(run: Callable[[], Any], times: int) -> float:
    """Returns how long a call takes on the device, from many in a row."""
    for _ in range(5):
        run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(times):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) * 1e3 / times


def host_microseconds(run: Callable[[], Any], times: int = 50, rounds: int = 40) -> float:
    """Returns the median over rounds of how long a call takes to return.

    A round has few enough launches that none waits for a place in the device's queue.
    """
    taken = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(times):
            run()
        taken.append((time.perf_counter() - started) * 1e6 / times)
    torch.cuda.synchronize()
    return statistics.median(taken)


def time_tokens(layer: Layer, tokens: Tokens) -> dict[str, float]:
    """Times the layer and its parts; the graph shows what the device needs."""
    package, shape = layer._package, layer.shape
    out = torch.empty_like(tokens.x)
    graph = Graph(layer, tokens)
    size = layer.experts.block_size(*tokens.ids.shape)
    blocks = package.moe_align(tokens.ids, num_experts=shape.experts, block_size=size)
    both = package.moe_gemm(tokens.x, layer.prepared[0], blocks, top_k=shape.top_k)
    inner = package.silu_and_mul(both)
    return {
        "graph_us": microseconds(graph.replay, 100),
        "eager_us": microseconds(lambda: layer.run(tokens, out=out), 100),
        "host_us": host_microseconds(lambda: layer.run(tokens)),
        "host_out_us": host_microseconds(lambda: layer.run(tokens, out=out)),
        "gemm_host_us": host_microseconds(
            lambda: package.moe_gemm(
                tokens.x, layer.prepared[0], blocks, top_k=shape.top_k, out=both
            )
        ),
        "silu_host_us": host_microseconds(lambda: package.silu_and_mul(both, out=inner)),
        "empty_host_us": host_microseconds(lambda: torch.empty_like(tokens.x)),
    }


def load_package(library: str) -> Any:
    """Imports the package of this source tree, or the installed one where there is none."""
    if not Path(library).is_file():
        raise SystemExit(f"--library = {library} is not a file; allowed: libmarlin_moe_ffi.so")
    os.environ["MARLIN_MOE_LIBRARY"] = library
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
    import marlin_moe

    return marlin_moe


def run_checks(
    layer: Layer, tokens: list[int], device: str, only: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs and prints all checks and times, or with `only` some checks; returns them."""
    checks, times = [], []
    for m in tokens:
        given = make_tokens(layer.shape, m, device)
        found = list(check_tokens(layer, given, only))
        if not only:
            found += check_tuned(layer, given)
        if m == tokens[-1] and not only:
            found += check_refusals(layer, given)
        for name, fine, detail in found:
            print(f"{'ok  ' if fine else 'FAIL'} M {m:4} {name}: {detail}", flush=True)
            checks.append({"m": m, "name": name, "fine": fine, "detail": detail})
        if only:
            continue
        taken = time_tokens(layer, given)
        print(f"     M {m:4} " + ", ".join(f"{k} {v:.1f}" for k, v in taken.items()), flush=True)
        times.append({"m": m, **taken})
    return checks, times


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libmarlin_moe_ffi.so")
    parser.add_argument("--out", type=results_file, help="file for all results, JSON")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16, 300])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="", help="of the ways to ask, those whose name holds this; no times"
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    package = load_package(options.library)
    torch.manual_seed(options.seed)
    torch.backends.cuda.matmul.allow_tf32 = False
    layer = Layer(package, Shape(), "cuda")
    checks, times = run_checks(layer, options.tokens, "cuda", options.only)
    failed = [check for check in checks if not check["fine"]]
    device = torch.cuda.get_device_name()
    if torch.cuda.device_count() == 1:
        print("one GPU: what needs two was not run")
    print(f"{device}, torch {torch.__version__}: {len(checks)} checks, {len(failed)} failed")
    if options.out:
        summary = {"device": device, "torch": torch.__version__, "checks": checks, "times": times}
        write_results(options.out, summary)
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
