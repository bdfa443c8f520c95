"""The package's functions as operators of PyTorch, which torch.compile and torch.export can trace.

    import marlin_moe.torch

    experts = marlin_moe.torch.Experts(gate_up, down)  # a module
    out = experts(x, topk_weights, topk_ids)

Importing defines torch.ops.marlin_moe.moe_align, .moe_gemm, .silu_and_mul, .gelu_and_mul,
.swigluoai_and_mul, .topk_sum, .quantize_activations and .fused_moe. They take the arguments of the
functions of the same names, but for objects, of which they take the fields: for ExpertWeights `b`,
`scales`, `b_type` ...; in fused_moe `gate_up_b`, `down_b` ...; for an Alignment its three lists and
`block_size`. Results always are new tensors. Nothing has a gradient.

In torch.compile's graphs a module Experts is the operator torch.ops.marlin_moe.experts, which is
told two tensors of the module and finds it by them: it costs a fraction of fused_moe, with its
forty arguments and a new layer for each call. Graphs of torch.export hold fused_moe.
"""

from __future__ import annotations

import dataclasses
import inspect
import operator
import weakref
from collections.abc import Callable
from typing import Any

import torch

import marlin_moe

from .errors import invalid
from .layer import MoeLayer
from .weights import ExpertWeights

# Fields of ExpertWeights that its caller gives, and options of MoeLayer.
_FIELDS = [field for field in dataclasses.fields(ExpertWeights) if field.init]
_OPTIONS = [
    parameter
    for parameter in inspect.signature(MoeLayer).parameters.values()
    if parameter.kind is parameter.KEYWORD_ONLY
]
_MATRICES = ("gate_up", "down")
# What torch's schemas call the types of arguments.
_SCHEMA_TYPES = {"Any": "Tensor", "str": "str", "int": "int", "bool": "bool", "float": "float"}

# What keeps scratch memory of its own stays out of
# the CUDA graphs that torch.compile records, whose memory must all be theirs.
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)
_KEEPS_MEMORY = (*_TAGS, torch.Tag.cudagraph_unsafe)

_library = torch.library.Library("marlin_moe", "DEF")


def _argument(name: str, annotation: str, default: Any, no_default: object) -> str:
    """Returns an argument as a schema declares it."""
    kind, _, none = annotation.partition(" | ")
    optional = none == "None" or (kind == "Any" and default is None)
    declared = f"{_SCHEMA_TYPES[kind]}{'?' if optional else ''} {name}"
    if default is no_default:
        return declared
    return f'{declared}="{default}"' if isinstance(default, str) else f"{declared}={default}"


def _weights_arguments(prefix: str = "") -> list[str]:
    return [
        _argument(prefix + field.name, str(field.type), field.default, dataclasses.MISSING)
        for field in _FIELDS
    ]


def _weights(given: dict[str, Any], prefix: str = "") -> ExpertWeights:
    """Takes the weights out of the arguments of an operator."""
    names = [field.name for field in _FIELDS if prefix + field.name in given]
    return ExpertWeights(**{name: given.pop(prefix + name) for name in names})


def _define(
    name: str,
    arguments: list[str],
    results: str,
    run: Callable[..., Any],
    shape: Callable[..., Any],
) -> None:
    """Defines an operator.

    Args:
      name: its name.
      arguments: of its schema.
      results: likewise.
      run: computes it on CUDA tensors, from arguments by name.
      shape: makes results of the right shapes and types, likewise.
    """
    arguments = sorted(arguments, key=lambda argument: "=" in argument)
    names = [argument.partition("=")[0].split()[-1] for argument in arguments]
    tags = _KEEPS_MEMORY if name in ("moe_gemm", "fused_moe", "experts") else _TAGS
    _library.define(f"{name}({', '.join(arguments)}) -> {results}", tags=tags)
    qualified = f"marlin_moe::{name}"

    def named(function: Callable[..., Any]) -> Callable[..., Any]:
        if list(inspect.signature(function).parameters) == names:
            return function  # takes them in order
        return lambda *given, **more: function(**dict(zip(names, given, strict=False)), **more)

    def backward(context: Any, *gradients: Any) -> Any:
        raise NotImplementedError(
            f"torch.ops.marlin_moe.{name} has no gradient: call it under torch.no_grad()"
        )

    _library.impl(name, named(run), "CUDA")
    torch.library.register_fake(qualified, named(shape), lib=_library)
    torch.library.register_autograd(qualified, backward, lib=_library)


def _moe_align(**given: Any) -> Any:
    return marlin_moe.moe_align(**given)[:3]


def _moe_align_shape(topk_ids: Any, num_experts: int, block_size: int, **options: Any) -> Any:
    # As alignment_capacity() says, for numbers of tokens that are not known.
    ids = topk_ids.numel()
    blocks = (ids + torch.sym_min(ids, num_experts) * (block_size - 1)) // block_size
    return tuple(topk_ids.new_empty(shape) for shape in ((blocks * block_size,), (blocks,), (1,)))


def _moe_gemm(
    a: Any,
    sorted_token_ids: Any,
    expert_ids: Any,
    num_tokens_past_padded: Any,
    block_size: int,
    **given: Any,
) -> Any:
    lists = (sorted_token_ids, expert_ids, num_tokens_past_padded)
    alignment = marlin_moe.Alignment(*lists, block_size)
    return marlin_moe.moe_gemm(a, _weights(given), alignment, **given)


def _moe_gemm_shape(
    a: Any, top_k: int, scales: Any, c_type: str | None = None, **given: Any
) -> Any:
    half = scales.dtype == torch.float16 if c_type is None else c_type == "kFloat16"
    dtype = torch.float16 if half else torch.bfloat16
    return a.new_empty((a.shape[0] * top_k, scales.shape[2]), dtype=dtype)


def _act_and_mul_shape(x: Any, **options: Any) -> Any:
    return x.new_empty((x.shape[0], x.shape[1] // 2))


def _topk_sum_shape(x: Any, top_k: int, **options: Any) -> Any:
    return x.new_empty((x.shape[0] // top_k, x.shape[1]))


def _quantize_activations(x: Any, out_type: str, factor: Any = None) -> Any:
    # The function makes bytes of kFE4M3fn, which not every framework can hold; PyTorch can.
    values = _quantized(x, out_type)
    scales = x.new_empty((x.shape[0],), dtype=torch.float32)
    out = marlin_moe.QuantizedActivations(values, scales)
    return marlin_moe.quantize_activations(x, out_type=out_type, factor=factor, out=out)


def _quantize_activations_shape(x: Any, out_type: str, factor: Any = None) -> Any:
    return _quantized(x, out_type), x.new_empty((x.shape[0],), dtype=torch.float32)


def _quantized(x: Any, out_type: str) -> Any:
    dtype = torch.int8 if out_type == "kS8" else torch.float8_e4m3fn
    return x.new_empty(x.shape, dtype=dtype)


def _fused_moe(x: Any, topk_weights: Any, topk_ids: Any, **given: Any) -> Any:
    gate_up, down = (_weights(given, f"{matrix}_") for matrix in _MATRICES)
    return MoeLayer(gate_up, down, **given)(x, topk_weights, topk_ids)


def _layer_shape(x: Any, **others: Any) -> Any:
    return x.new_empty(x.shape)


_define(
    "moe_align",
    [
        "Tensor topk_ids",
        "int num_experts",
        "int block_size",
        "Tensor? expert_map=None",
        "bool drop_remote=False",
    ],
    "(Tensor sorted_token_ids, Tensor expert_ids, Tensor num_tokens_past_padded)",
    _moe_align,
    _moe_align_shape,
)
_define(
    "moe_gemm",
    [
        "Tensor a",
        "Tensor sorted_token_ids",
        "Tensor expert_ids",
        "Tensor num_tokens_past_padded",
        "int block_size",
        "int top_k",
        *_weights_arguments(),
        "Tensor? a_scales=None",
        "Tensor? topk_weights=None",
        "bool expert_parallel=False",
    ],
    "Tensor",
    _moe_gemm,
    _moe_gemm_shape,
)
for _run in (marlin_moe.silu_and_mul, marlin_moe.gelu_and_mul, marlin_moe.swigluoai_and_mul):
    _arguments = [
        _argument(p.name, str(p.annotation), p.default, p.empty)
        for p in inspect.signature(_run).parameters.values()
        if p.name != "out"
    ]
    _define(_run.__name__, _arguments, "Tensor", _run, _act_and_mul_shape)
_define(
    "topk_sum",
    [
        "Tensor x",
        "int top_k",
        "Tensor? topk_ids=None",
        "int num_experts=0",
        "Tensor? expert_map=None",
    ],
    "Tensor",
    marlin_moe.topk_sum,
    _topk_sum_shape,
)
_define(
    "quantize_activations",
    ["Tensor x", "str out_type", "Tensor? factor=None"],
    "(Tensor values, Tensor scales)",
    _quantize_activations,
    _quantize_activations_shape,
)
_define(
    "fused_moe",
    [
        "Tensor x",
        "Tensor topk_weights",
        "Tensor topk_ids",
        *_weights_arguments("gate_up_"),
        *_weights_arguments("down_"),
        *(_argument(o.name, str(o.annotation), o.default, o.empty) for o in _OPTIONS),
    ],
    "Tensor",
    _fused_moe,
    _layer_shape,
)


# The modules that there are, and those that were found by what the operator knows of them: where
# the weights of both GEMMs are, and the options, which all layers of a model may share.
_modules: weakref.WeakSet[Experts] = weakref.WeakSet()
_found: weakref.WeakValueDictionary[tuple[int, int, str], Experts] = weakref.WeakValueDictionary()


def _experts(
    x: Any, topk_weights: Any, topk_ids: Any, gate_up_b: Any, down_b: Any, options: str
) -> Any:
    key = (gate_up_b.data_ptr(), down_b.data_ptr(), options)
    module = _found.get(key)
    if module is None or module._key() != key:  # it may have got other buffers
        module = next((each for each in _modules if each._key() == key), None)
        if module is None:
            raise invalid("gate_up_b", "another tensor", "that of a module Experts in use")
        _found[key] = module
    return module._prepared()(x, topk_weights, topk_ids)


_define(
    "experts",
    [
        "Tensor x",
        "Tensor topk_weights",
        "Tensor topk_ids",
        "Tensor gate_up_b",
        "Tensor down_b",
        "str options",
    ],
    "Tensor",
    _experts,
    _layer_shape,
)


class Experts(torch.nn.Module):
    """The experts of a MoE layer as a module, whose buffers are the tensors of the weights.

    It can be copied, pickled, moved and given other buffers, like any module.
    """

    def __init__(self, gate_up: ExpertWeights, down: ExpertWeights, **options: Any) -> None:
        """Takes what MoeLayer takes, and checks it as that does."""
        super().__init__()
        self._constants: dict[str, Any] = {}
        for prefix, weights in zip(_MATRICES, (gate_up, down), strict=True):
            for field in _FIELDS:
                self._keep(f"{prefix}_{field.name}", getattr(weights, field.name))
        for name, value in options.items():
            self._keep(name, value)
        self._layer: MoeLayer | None = MoeLayer(gate_up, down, **options)
        self._made_of = tuple(self._buffers.values())
        self._options = repr(self._constants)
        self._enter()

    def _enter(self) -> None:
        """Lets the operator find the module, and no other that has the same weights in part."""
        mine = tuple(self._buffers.values())
        while any(
            each._key() == self._key() and not all(map(operator.is_, mine, each._buffers.values()))
            for each in _modules
        ):
            self._options += "'"
        _modules.add(self)

    def _key(self) -> tuple[int, int, str]:
        gate_up, down = (self._buffers[f"{matrix}_b"] for matrix in _MATRICES)
        return gate_up.data_ptr(), down.data_ptr(), self._options

    def __getstate__(self) -> dict[str, Any]:
        """Returns what copies have in common: the layer is made again, from their own buffers."""
        return {**self.__dict__, "_layer": None, "_made_of": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the state of another module."""
        super().__setstate__(state)
        self._enter()

    def _keep(self, name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self.register_buffer(name, value)
        elif value is not None:
            self._constants[name] = value

    def _prepared(self) -> MoeLayer:
        """Returns the layer, made again if a buffer is another tensor than it was."""
        buffers = tuple(self._buffers.values())
        layer = self._layer
        same = map(operator.is_, buffers, self._made_of)
        if layer is None or not all(same):
            given = {**self._buffers, **self._constants}
            gate_up, down = (_weights(given, f"{matrix}_") for matrix in _MATRICES)
            layer = MoeLayer(gate_up, down, **given)
            self._layer, self._made_of = layer, buffers
        return layer

    def forward(
        self, x: torch.Tensor, topk_weights: torch.Tensor, topk_ids: torch.Tensor
    ) -> torch.Tensor:
        """Runs the experts, as a call of MoeLayer does."""
        result: torch.Tensor
        if torch.compiler.is_exporting():
            result = torch.ops.marlin_moe.fused_moe(
                x, topk_weights, topk_ids, **self._buffers, **self._constants
            )
        elif torch.compiler.is_compiling():
            result = torch.ops.marlin_moe.experts(
                x, topk_weights, topk_ids, self.gate_up_b, self.down_b, self._options
            )
        else:
            result = self._prepared()(x, topk_weights, topk_ids)
        return result
