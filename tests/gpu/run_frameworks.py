"""The Python package with tensors of each framework it serves, for every scheme, on a GPU.

    run_frameworks.py --library libmarlin_moe_ffi.so [--peer-library _moe_C_stable_libtorch.abi3.so]

A MoE layer of each scheme runs with tensors of PyTorch, and is compared with the dequantised
weights in float64. The same layer has to give the same bits as an operator of torch.ops, with
arrays of CuPy and inside jax.jit, and the same result inside torch.compile; torch.library.opcheck
looks at every operator. What prepares weights has to give the same bits with CuPy's and JAX's
arrays as with PyTorch's. With --peer-library (out of vLLM's wheel), marlin_moe.vllm is compared
with vLLM's operator, both on the operator's arguments. Frameworks that are not installed are left
out: the last line names the parts that ran. Exit status 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import importlib
import importlib.util
import itertools
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import vllm_operator
from cases import Combination, WeightKey
from compare_with_vllm import load_operator
from driver_options import results_file, write_results
from run_python import compare, host_microseconds, load_package
from weights import DTYPES, Weights

_HIDDEN, _INNER, _EXPERTS, _TOP_K, _TOKENS = 256, 384, 8, 2, 37
# Of the mean error, as a share of the results' root mean square.
_MOST_MEAN = {16: 0.01, 8: 0.03}
_LARGEST_A8 = {"kS8": 127.0, "kFE4M3fn": 448.0}

# Scheme, types of activations, weights, results and scales, rows of a scale's group / 16 (-1: one
# scale for a column, 0: act-order).
SCHEMES = (
    ("gptq_int4", "kBFloat16", "kU4B8", "kBFloat16", "kBFloat16", 8),
    ("gptq_int4", "kFloat16", "kU4B8", "kFloat16", "kFloat16", 2),
    ("gptq_int4", "kFloat16", "kU4B8", "kFloat16", "kFloat16", 0),
    ("awq_int4", "kFloat16", "kU4", "kFloat16", "kFloat16", 8),
    ("int8", "kFloat16", "kU8B128", "kFloat16", "kFloat16", 8),
    ("fp8", "kFloat16", "kFE4M3fn", "kFloat16", "kFloat16", -1),
    ("fp8", "kBFloat16", "kFE4M3fn", "kBFloat16", "kBFloat16", 8),
    ("nvfp4", "kFloat16", "kFE2M1f", "kFloat16", "kFE4M3fn", 1),
    ("mxfp4", "kBFloat16", "kFE2M1f", "kBFloat16", "kFE8M0fnu", 2),
    ("awq_int4_a8", "kS8", "kU4", "kFloat16", "kFloat16", 8),
    ("gptq_int4_a8", "kS8", "kU4B8", "kFloat16", "kFloat16", -1),
    ("gptq_int4_afp8", "kFE4M3fn", "kU4B8", "kFloat16", "kFloat16", 8),
    ("awq_int4_afp8", "kFE4M3fn", "kU4", "kFloat16", "kFloat16", 8),
    ("mxfp4_afp8", "kFE4M3fn", "kFE2M1f", "kBFloat16", "kFE8M0fnu", 2),
)
_OPCHECKS = (
    "test_schema",
    "test_autograd_registration",
    "test_faketensor",
    "test_aot_dispatch_dynamic",
)
_PEER_TYPES = {
    "kU4": "uint4",
    "kU4B8": "uint4b8",
    "kU8B128": "uint8b128",
    "kFE4M3fn": "float8_e4m3fn",
    "kFE2M1f": "float4_e2m1f",
}
# Where vLLM's operator takes FP8 activations.
_PEER_FP8 = ((8, 9), (12, 0), (12, 1))
Check = tuple[str, bool, str]


def _swigluoai(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    gate, up = gate.clamp(max=_LIMIT), up.clamp(min=-_LIMIT, max=_LIMIT)
    return gate * torch.sigmoid(_ALPHA * gate) * (up + 1)


# What MoeLayer calls activations, in PyTorch's words; parameters that some values are beyond.
_ALPHA, _LIMIT = 1.4, 0.75
ACTIVATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "silu": lambda gate, up: torch.nn.functional.silu(gate) * up,
    "gelu": lambda gate, up: torch.nn.functional.gelu(gate) * up,
    "gelu_tanh": lambda gate, up: torch.nn.functional.gelu(gate, approximate="tanh") * up,
    "swigluoai": _swigluoai,
}


@dataclass(frozen=True)
class Layer:
    """A layer of one scheme, and what goes into it, as tensors of PyTorch.

    Attributes:
      name: scheme and types.
      key: of the first GEMM's weights.
      gate_up: weights of GEMM 1.
      down: those of GEMM 2.
      x: [m, hidden] of the results' type.
      weights: float32 [m, top_k].
      ids: int32 [m, top_k].
    """

    name: str
    key: WeightKey
    gate_up: Weights
    down: Weights
    x: torch.Tensor
    weights: torch.Tensor
    ids: torch.Tensor

    @property
    def tokens(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.x, self.weights, self.ids


def make_layer(scheme: tuple[Any, ...], *, gated: bool = True) -> Layer:
    """Draws weights and tokens; the same for the same scheme. Only gated layers have gates."""
    kind = Combination(*scheme)
    columns = (1 + gated) * _INNER
    keys = [kind.key(n, k, 64) for n, k in ((columns, _HIDDEN), (_HIDDEN, _INNER))]
    seed = zlib.crc32(repr(scheme).encode())
    both = [
        Weights(key, _EXPERTS, "cuda", "cuda", seed + i, powers=(0,)) for i, key in enumerate(keys)
    ]
    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.randn((_TOKENS, _HIDDEN), device="cuda", generator=generator)
    scores = torch.randn((_TOKENS, _EXPERTS), device="cuda", generator=generator)
    weights, ids = torch.topk(torch.softmax(scores, dim=-1), _TOP_K, dim=-1)
    dtype = DTYPES[keys[0].c_type]
    return Layer(keys[0].label, keys[0], *both, x.to(dtype), weights.contiguous(), ids.int())


def fields_of(weights: Weights) -> dict[str, Any]:
    """Returns what ExpertWeights is made of."""
    key = weights.key
    return {
        "b": weights.b.view(weights.experts, key.k // 16, -1),
        "scales": weights.scales,
        "b_type": key.b_type,
        "group_size": key.group_size,
        "a_type": key.a_type if key.a_bits == 8 else None,
        "c_type": key.c_type,
        "s_type": key.s_type,
        "zero_points": weights.zero_points,
        "global_scales": weights.global_scales,
        "bias": weights.bias,
        "g_idx": weights.g_idx,
        "perm": weights.perm,
    }


def prepared(package: Any, layer: Layer, convert: Callable[[Any], Any] = lambda x: x) -> list[Any]:
    """Returns the weights of both GEMMs as the package takes them."""
    return [
        package.ExpertWeights(
            **{
                name: convert(value) if isinstance(value, torch.Tensor) else value
                for name, value in fields_of(weights).items()
            }
        )
        for weights in (layer.gate_up, layer.down)
    ]


def reference(
    layer: Layer,
    activation: str = "silu",
    *,
    interleaved: bool = False,
    weight_input: bool = False,
) -> torch.Tensor:
    """Computes the layer in float64, rounding where the kernels' results are stored.

    With `weight_input` it has no biases.
    """
    key, dtype = layer.key, layer.x.dtype

    def quantised(x: torch.Tensor) -> torch.Tensor:
        if key.a_bits == 16:
            return x.double()
        scale = x.float().abs().amax(dim=1, keepdim=True) / _LARGEST_A8[key.a_type]
        scaled = x.float() / scale
        rounded = scaled.round() if key.a_type == "kS8" else scaled.to(torch.float8_e4m3fn)
        return rounded.double() * scale.double()

    out = torch.zeros(layer.x.shape, dtype=torch.float64, device="cuda")
    source = quantised(layer.x)
    for expert in range(_EXPERTS):
        token, choice = torch.nonzero(layer.ids == expert, as_tuple=True)
        weight = layer.weights[token, choice].double()[:, None]
        both = source[token] @ layer.gate_up.dequantised(expert)
        both = both * weight if weight_input else both + layer.gate_up.exact_bias()[expert]
        inner = both = both.to(dtype).double()
        if activation != "none":
            parts = both.chunk(2, dim=-1)
            if interleaved:
                parts = (both[:, ::2], both[:, 1::2])
            inner = ACTIVATIONS[activation](*parts).to(dtype)
        result = quantised(inner) @ layer.down.dequantised(expert)
        if not weight_input:
            result = (result + layer.down.exact_bias()[expert]) * weight
        out.index_add_(0, token, result)
    return out.float()


def same(name: str, got: torch.Tensor, wanted: torch.Tensor) -> Check:
    torch.cuda.synchronize()
    equal = got.shape == wanted.shape and torch.equal(
        got.view(torch.uint8), wanted.view(torch.uint8)
    )
    differing = "" if got.shape != wanted.shape else f"{int((got != wanted).sum())} elements differ"
    return name, equal, "the same bits" if equal else f"{tuple(got.shape)}, {differing}"


def check_layer(package: Any, layer: Layer) -> Iterator[Check]:
    """The layer with tensors of PyTorch, beside the reference."""
    result = package.MoeLayer(*prepared(package, layer))(*layer.tokens)
    right = reference(layer)
    errors = compare(result, right)
    fine = errors.mean <= _MOST_MEAN[layer.key.a_bits]
    yield "MoeLayer", fine, f"mean error {errors.mean:.5f}, largest {errors.largest:.4f}"
    wrong = compare(result, torch.roll(right, 1, dims=0))
    yield "a wrong result is noticed", wrong.mean > 0.1, f"mean error {wrong.mean:.5f}"


def check_activations(package: Any, scheme: tuple[Any, ...]) -> Iterator[Check]:
    """What lies between the GEMMs, and router weights on the input."""
    options: list[dict[str, Any]] = [
        {"activation": name, "interleaved": interleaved}
        for name in ACTIVATIONS
        for interleaved in (False, True)
    ]
    for given in options:
        if given["activation"] == "swigluoai":
            given |= {"alpha": _ALPHA, "limit": _LIMIT}
    results = []
    layer = make_layer(scheme)
    for given in options:
        results.append(package.MoeLayer(*prepared(package, layer), **given)(*layer.tokens))
        names = {name: given[name] for name in ("activation", "interleaved")}
        errors = compare(results[-1], reference(layer, **names))
        fine = errors.mean <= _MOST_MEAN[layer.key.a_bits]
        yield f"{names}", fine, f"mean error {errors.mean:.5f}"
    distances = [
        compare(one, other.float()).mean
        for one, other in itertools.combinations(results, 2)
        if one is not results[2] and one is not results[3]  # the two forms of GELU are close
    ]
    yield "activations differ", min(distances) > 0.02, f"least {min(distances):.4f}"
    gated = [dataclasses.replace(part, bias=None) for part in prepared(package, layer)]
    weighted = package.MoeLayer(*gated, apply_router_weight_on_input=True)(*layer.tokens)
    errors = compare(weighted, reference(layer, weight_input=True))
    yield "router weights on the input", errors.mean <= 0.01, f"mean error {errors.mean:.5f}"
    layer = make_layer(scheme, gated=False)
    plain = package.MoeLayer(*prepared(package, layer), activation="none")(*layer.tokens)
    errors = compare(plain, reference(layer, "none"))
    yield "no activation", errors.mean <= 0.01, f"mean error {errors.mean:.5f}"


class Block(torch.nn.Module):
    """What a model has around its experts: a norm, a router and a sum."""

    def __init__(self, package: Any, layer: Layer) -> None:
        super().__init__()
        import marlin_moe.torch as front

        self.experts = front.Experts(*prepared(package, layer))
        dtype = layer.x.dtype
        self.router = torch.nn.Linear(_HIDDEN, _EXPERTS, bias=False, device="cuda", dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.nn.functional.rms_norm(x, x.shape[-1:])
        probabilities = torch.softmax(self.router(inner).float(), dim=-1)
        weights, ids = torch.topk(probabilities, _TOP_K, dim=-1)
        return x + self.experts(inner, weights, ids.int())


def check_operators(package: Any, layer: Layer, thorough: bool) -> Iterator[Check]:
    """The operators of torch.ops, by themselves and under opcheck."""
    front = importlib.import_module("marlin_moe.torch")
    experts = front.Experts(*prepared(package, layer))
    operators = torch.ops.marlin_moe
    gate_up, down = fields_of(layer.gate_up), fields_of(layer.down)
    both = {f"gate_up_{name}": value for name, value in gate_up.items()}
    both |= {f"down_{name}": value for name, value in down.items()}
    result = package.MoeLayer(*prepared(package, layer))(*layer.tokens)
    yield same("torch.ops: fused_moe", operators.fused_moe(*layer.tokens, **both), result)
    lists = operators.moe_align(layer.ids, _EXPERTS, 16)
    wanted = package.moe_align(layer.ids, num_experts=_EXPERTS, block_size=16)
    used = int(wanted.num_tokens_past_padded)
    yield same("torch.ops: moe_align", lists[0][:used], wanted.sorted_token_ids[:used])
    source: torch.Tensor = layer.x
    scales = {}
    if layer.key.a_bits == 8:
        source, rows = operators.quantize_activations(layer.x, layer.key.a_type)
        scales = {"a_scales": rows}
    rows = operators.moe_gemm(source, *lists, 16, _TOP_K, **gate_up, **scales)
    inner = operators.silu_and_mul(rows)
    samples: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("moe_align", (layer.ids, _EXPERTS, 16), {}),
        ("moe_gemm", (source, *lists, 16, _TOP_K), gate_up | scales),
        ("silu_and_mul", (rows,), {}),
        ("gelu_and_mul", (rows,), {"approximate": "tanh"}),
        ("swigluoai_and_mul", (rows,), {"limit": 2.0, "interleaved": True}),
        ("topk_sum", (inner, _TOP_K), {"topk_ids": layer.ids, "num_experts": _EXPERTS}),
        ("fused_moe", layer.tokens, both),
        ("experts", (*layer.tokens, experts.gate_up_b, experts.down_b, experts._options), {}),
    ]
    if scales:
        samples.append(("quantize_activations", (layer.x, layer.key.a_type), {}))
    for name, arguments, options in samples if thorough else []:
        tests = list(_OPCHECKS)
        if name == "experts":  # others call it with copies of weights, which no module has
            tests = ["test_autograd_registration"]
        if name == "moe_align":  # what lies behind the entries in use differs from call to call
            tests.remove("test_aot_dispatch_dynamic")
        if name == "moe_gemm" and source.dtype is torch.float8_e4m3fn:
            tests.remove("test_schema")  # computes with copies of the arguments: torch cannot
        found = torch.library.opcheck(
            getattr(operators, name).default,
            arguments,
            options,
            test_utils=tests,
            raise_exception=False,
        )
        bad = [
            f"{test}: {outcome}"[:300] for test, outcome in found.items() if outcome != "SUCCESS"
        ]
        yield f"torch.library.opcheck: {name}", not bad and len(found) == len(tests), "; ".join(bad)


def check_compiled(package: Any, layer: Layer) -> Iterator[Check]:
    """A block of a model under torch.compile, with two numbers of tokens and CUDA graphs."""
    with torch.no_grad():
        block = Block(package, layer)
        for mode in ("default", "reduce-overhead"):
            torch._dynamo.reset()
            compiled = torch.compile(block, fullgraph=True, mode=mode)
            for m in (_TOKENS, 5, _TOKENS):
                wanted = block(layer.x[:m])
                errors = compare(compiled(layer.x[:m]).clone(), wanted.float())
                detail = f"mean error {errors.mean:.5f}, largest {errors.largest:.4f}"
                yield f"torch.compile {mode}, {m} tokens", errors.mean < 0.01, detail
        exported = torch.export.export(block, (layer.x,))
        holds = any("fused_moe" in str(node.target) for node in exported.graph.nodes)
        errors = compare(exported.module()(layer.x), block(layer.x).float())
        yield "torch.export", holds and errors.mean < 0.01, f"mean error {errors.mean:.5f}"
        other = Block(package, layer)
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        torch._dynamo.reset()
        for each in (block, other):
            each.compile(fullgraph=True)
            errors = compare(each(layer.x), each.forward(layer.x).float())
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
        yield "two compiled blocks share a graph", graphs == 1, f"{graphs} graphs"
    inputs = (layer.x.clone().requires_grad_(True), *layer.tokens[1:])
    options = {**block.experts._buffers, **block.experts._constants}
    for name, run in (
        ("module", lambda: block.experts(*inputs)),
        ("operator", lambda: torch.ops.marlin_moe.fused_moe(*inputs, **options)),
    ):
        try:
            run().sum().backward()
        except (NotImplementedError, package.InvalidArgumentError) as error:
            yield f"a gradient of the {name} is refused", "gradient" in str(error), str(error)
        else:
            yield f"a gradient of the {name} is refused", False, "it was not"


def check_streams(package: Any, layer: Layer) -> Iterator[Check]:
    """Operators on two streams at once."""
    import marlin_moe.torch as front

    experts = front.Experts(*prepared(package, layer))
    wanted = experts(*layer.tokens)
    moved = front.Experts(*prepared(package, layer))
    moved.load_state_dict({k: v.clone() for k, v in experts.state_dict().items()}, assign=True)
    yield same("a module with other buffers", moved(*layer.tokens), wanted)
    copied = copy.deepcopy(experts)
    found_by = (copied.gate_up_b, copied.down_b, copied._options)
    found = torch.ops.marlin_moe.experts(*layer.tokens, *found_by)
    yield same("a copy of a module, by its weights", found, wanted)
    del copied
    try:
        torch.ops.marlin_moe.experts(*layer.tokens, *found_by)
    except package.InvalidArgumentError as error:
        yield "a module that is gone is refused", "gate_up_b = " in str(error), str(error)
    else:
        yield "a module that is gone is refused", False, "it was not"
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    results = []
    for _ in range(20):
        for stream in streams:
            with torch.cuda.stream(stream):
                results.append(experts(*layer.tokens))
    torch.cuda.synchronize()
    different = sum(not torch.equal(result, wanted) for result in results)
    yield "torch.ops on two streams", different == 0, f"{different} of {len(results)} differ"


def time_operators(package: Any, layer: Layer) -> dict[str, float]:
    import marlin_moe.torch as front

    experts = front.Experts(*prepared(package, layer))
    direct = package.MoeLayer(*prepared(package, layer))
    options = {**experts._buffers, **experts._constants}
    whole, by_weights = torch.ops.marlin_moe.fused_moe.default, torch.ops.marlin_moe.experts.default
    calls: dict[str, Callable[[], Any]] = {
        "layer": lambda: direct(*layer.tokens),
        "module": lambda: experts(*layer.tokens),
        "experts": lambda: by_weights(
            *layer.tokens, experts.gate_up_b, experts.down_b, experts._options
        ),
        "fused_moe": lambda: whole(*layer.tokens, **options),
    }
    times = {}
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for name, call in calls.items():
                times[f"{name}_{mode.__name__}_host_us"] = host_microseconds(call)
    return times


def to_cupy(tensor: torch.Tensor) -> Any:
    """Returns the same memory as an array of CuPy's, integers where it lacks the type."""
    import cupy

    wider = {torch.bfloat16: torch.int16, torch.float8_e4m3fn: torch.uint8}
    return cupy.from_dlpack(tensor.view(wider.get(tensor.dtype, tensor.dtype)))


def check_cupy(package: Any, layer: Layer) -> Iterator[Check]:
    import cupy

    wanted = package.MoeLayer(*prepared(package, layer))(*layer.tokens)
    torch.cuda.synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        experts = package.MoeLayer(*prepared(package, layer, to_cupy))
        got = experts(*(to_cupy(tensor) for tensor in layer.tokens))
        own = isinstance(got, cupy.ndarray)
        stream.synchronize()
    result = torch.from_dlpack(got).view(layer.x.dtype)
    yield "CuPy: results are its own", own, type(got).__name__
    yield same("CuPy", result, wanted)


def to_jax(tensor: torch.Tensor) -> Any:
    import jax

    torch.cuda.synchronize()
    return jax.dlpack.from_dlpack(tensor.contiguous())


def from_jax(array: Any) -> torch.Tensor:
    return torch.from_dlpack(array.block_until_ready())


def check_jax(package: Any, layer: Layer) -> Iterator[Check]:
    import jax

    gate_up, down = prepared(package, layer, to_jax)
    x, weights, ids = (to_jax(tensor) for tensor in layer.tokens)
    wanted = package.MoeLayer(*prepared(package, layer))(*layer.tokens)

    def two(x: Any, gate_up: Any, down: Any, weights: Any, ids: Any) -> Any:
        once = package.fused_moe(x, gate_up, down, weights, ids)
        return once, package.fused_moe(x + 0, gate_up, down, weights, ids) + once

    once, twice = jax.jit(two)(x, gate_up, down, weights, ids)
    yield "JAX: results are its own", isinstance(once, jax.Array), type(once).__name__
    yield same("jax.jit", from_jax(once), wanted)
    yield same("jax.jit, two calls", from_jax(twice), wanted + wanted)
    oai = {"activation": "swigluoai", "alpha": _ALPHA, "limit": _LIMIT}
    other = jax.jit(functools.partial(package.fused_moe, **oai))(x, gate_up, down, weights, ids)
    expected = package.MoeLayer(*prepared(package, layer), **oai)(*layer.tokens)
    yield same("jax.jit, swigluoai", from_jax(other), expected)
    yield same(
        "JAX without jit", from_jax(package.fused_moe(x, gate_up, down, weights, ids)), wanted
    )
    try:
        package.fused_moe(x, gate_up, down, weights, ids + 0.0).block_until_ready()
    except Exception as error:
        named = "topk_ids = dtype float32 is not allowed" in str(error)
        yield "JAX: a wrong type is refused", named, str(error)[:160]
    else:
        yield "JAX: a wrong type is refused", False, "it was not"


def preparations() -> Iterator[tuple[str, tuple[torch.Tensor, ...], dict[str, Any]]]:
    """Yields functions that prepare weights, with tensors and options."""
    generator = torch.Generator("cuda").manual_seed(7)

    def words(*shape: int) -> torch.Tensor:
        return torch.randint(
            -(1 << 31), 1 << 31, shape, dtype=torch.int32, device="cuda", generator=generator
        )

    scales = torch.rand((4, 2, 128), device="cuda", generator=generator).half()
    groups = torch.stack([torch.randperm(256, device="cuda", generator=generator) // 64] * 4).int()
    yield "repack_gptq", (words(4, 32, 128),), {"b_type": "kU4B8"}
    yield "repack_gptq", (words(4, 64, 128),), {"b_type": "kU8B128"}
    yield "repack_awq", (words(4, 256, 16),), {"b_type": "kU4", "a_type": "kS8"}
    yield "repack_rows", (words(4, 128, 64).view(torch.uint8),), {"b_type": "kFE4M3fn"}
    yield "repack_rows", (words(4, 128, 32).view(torch.uint8),), {"b_type": "kFE2M1f"}
    yield "permute_scales", (scales,), {"b_type": "kU4B8", "group_size": 128}
    int8 = {"b_type": "kU4B8", "group_size": 128, "a_type": "kS8"}
    yield "permute_scales", (scales,), int8
    yield "permute_zero_points", (words(4, 2, 16),), {}
    yield "permute_bias", (scales[:, 0].contiguous(),), {}
    yield "scale_global_scales", (scales[:, 0, 0].float(),), {"c_type": "kBFloat16"}
    yield "sort_rows_by_group", (groups,), {}


def check_preparation(
    package: Any, name: str, to: Callable[[Any], Any], back: Callable[[Any], torch.Tensor]
) -> Iterator[Check]:
    for function, tensors, options in preparations():
        run = getattr(package, function)
        wanted, got = run(*tensors, **options), run(*map(to, tensors), **options)
        pairs = zip(wanted, got, strict=True) if isinstance(wanted, tuple) else [(wanted, got)]
        for mine, other in pairs:
            if mine is not None:
                yield same(f"{name}: {function} {options}", back(other).view(mine.dtype), mine)


class PeerType:
    """A weight type of vLLM's, as far as the operator's caller looks at it."""

    def __init__(self, b_type: str) -> None:
        self.id = vllm_operator.type_id(b_type)
        self._name = _PEER_TYPES[b_type]

    def __str__(self) -> str:
        return self._name


def check_peer(package: Any, operator: Any, layer: Layer) -> Iterator[Check]:
    """vLLM's operator and the function that replaces it, on the same arguments."""
    import marlin_moe.vllm as front

    weights, key = layer.gate_up, layer.key
    if key.b_type not in vllm_operator._TYPES or key.group_size == 0:
        return
    if key.a_type == "kFE4M3fn" and torch.cuda.get_device_capability() not in _PEER_FP8:
        return
    source, a_scales = layer.x, None
    if key.a_bits == 8:
        values = torch.empty_like(layer.x, dtype=torch.int8)
        if key.a_type == "kFE4M3fn":
            values = torch.empty_like(layer.x, dtype=torch.float8_e4m3fn)
        rows = torch.empty((_TOKENS, 1), device="cuda")
        out = package.QuantizedActivations(values, rows.view(-1))
        package.quantize_activations(layer.x, out_type=key.a_type, out=out)
        if key.a_type == "kS8" and weights.global_scales is not None:
            rows *= weights.global_scales.max()  # float16 does not hold results without it
        source, a_scales = values, rows
    scales = weights.scales
    if key.s_type in ("kFE4M3fn", "kFE8M0fnu"):
        names = {"kFE4M3fn": torch.float8_e4m3fn, "kFE8M0fnu": torch.float8_e8m0fnu}
        if key.s_type == "kFE4M3fn":  # vLLM's format has no smaller ones
            scales = scales.clamp(min=0x80)
        scales = scales.view(names[key.s_type])
    size = 16
    lists = package.moe_align(layer.ids, num_experts=_EXPERTS, block_size=size)
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    results = []
    for run, b_type in (
        (operator, PeerType(key.b_type).id),
        (front.moe_wna16_marlin_gemm, PeerType(key.b_type)),
    ):
        output = torch.zeros((_TOKENS * _TOP_K, key.n), dtype=layer.x.dtype, device="cuda")
        workspace = torch.zeros(
            vllm_operator.WORKSPACE_PER_SM * processors, dtype=torch.int32, device="cuda"
        )
        global_scales = weights.global_scales if key.a_type != "kS8" else None
        arguments = [
            source,
            output,
            fields_of(weights)["b"],
            # vLLM multiplies NVFP4's bias by the scale for all as well, where tokens have weights.
            None if key.s_type == "kFE4M3fn" else weights.bias,
            scales,
            a_scales,
            global_scales,
        ]
        arguments += [weights.zero_points, workspace, *lists[:3], layer.weights, size, _TOP_K]
        arguments += [True, b_type, _TOKENS, key.n, key.k, False, True, False, -1, -1, -1]
        returned = run(*arguments)
        torch.cuda.synchronize()
        results.append(output)
        if returned.data_ptr() != output.data_ptr():
            yield "vLLM: the output is returned", False, "it was not"
    errors = compare(results[1], results[0].float())
    detail = f"mean error {errors.mean:.6f}, largest {errors.largest:.5f}"
    yield "vLLM's operator", errors.mean < 0.005 and bool(results[0].any()), detail


# What --parts takes: the checks of a layer, and the packages that they need.
PARTS: dict[str, tuple[str, ...]] = {
    "torch": (),
    "compile": (),
    "cupy": ("cupy",),
    "jax": ("jax", "jax_tvm_ffi"),
    "vllm": (),
}


def checks_of_layer(package: Any, layer: Layer, part: str, first: bool, operator: Any) -> Any:
    """Yields a part's checks of one scheme; `first` is for those that one scheme is enough for."""
    if part == "torch":
        yield from check_layer(package, layer)
        yield from check_operators(package, layer, first or layer.key.a_bits == 8)
        if first:
            yield from check_activations(package, SCHEMES[0])
    elif part == "compile" and first:
        yield from check_streams(package, layer)
        yield from check_compiled(package, layer)
    elif part == "cupy":
        yield from check_cupy(package, layer)
        if first:
            yield from check_preparation(package, part, to_cupy, torch.from_dlpack)
    elif part == "jax":
        yield from check_jax(package, layer)
        if first:
            yield from check_preparation(package, part, to_jax, from_jax)
    elif part == "vllm" and operator:
        yield from check_peer(package, operator, layer)


def all_checks(package: Any, parts: list[str], only: str, operator: Any) -> Iterator[Check]:
    """Yields all checks; what ends in an exception has failed."""
    first = True
    for scheme in SCHEMES:
        layer = make_layer(scheme)
        if only not in layer.name:
            continue
        for part in parts:
            try:
                for name, fine, detail in checks_of_layer(package, layer, part, first, operator):
                    yield f"{layer.name}, {name}", fine, detail
            except Exception as error:
                yield f"{layer.name}, {part}: {type(error).__name__}", False, str(error)[:600]
        first = False


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libmarlin_moe_ffi.so")
    parser.add_argument("--peer-library", help="_moe_C_stable_libtorch.abi3.so out of vLLM's wheel")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--only", default="", help="schemes whose label holds this text")
    parser.add_argument("--out", type=results_file, help="file for all results, JSON")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    package = load_package(options.library)
    torch.backends.cuda.matmul.allow_tf32 = False
    parts = [part for part in options.parts if all(map(importlib.util.find_spec, PARTS[part]))]
    operator = load_operator(options.peer_library) if options.peer_library else None
    started = time.monotonic()
    checks = []
    for name, fine, detail in all_checks(package, parts, options.only, operator):
        print(f"{'ok  ' if fine else 'FAIL'} {name}: {detail}", flush=True)
        checks.append({"name": name, "fine": fine, "detail": detail})
    times = time_operators(package, make_layer(SCHEMES[0])) if "torch" in parts else {}
    print(", ".join(f"{name} {value:.1f}" for name, value in times.items()))
    failed = sum(not check["fine"] for check in checks)
    device = torch.cuda.get_device_name()
    print(
        f"{device}, torch {torch.__version__}, {time.monotonic() - started:.0f} s: "
        f"{len(checks)} checks of {', '.join(parts)}, {failed} failed"
    )
    if options.out:
        write_results(options.out, {"device": device, "checks": checks, "times": times})
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
