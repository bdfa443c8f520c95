"""Calls with arrays of JAX: each becomes an operation of the program that XLA compiles.

jax-tvm-ffi hands over arrays and nothing else. So a call is turned into an expression of the
library's functions and constants, in which arrays are numbers (see function_of() in the binding),
and each expression is an operation of its own. Weights and layers are part of the expressions of
the calls that use them; they are checked when the program runs.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp

from ._library import function
from .errors import LibraryError, invalid
from .weights import ExpertWeights

_BITS = {"kU4": 4, "kU4B8": 4, "kFE2M1f": 4}
# What has no result of its own.
_PARTS = ("expert_weights", "moe_layer")

_lock = threading.Lock()
_targets: set[str] = set()


@dataclass(frozen=True)
class Call:
    """A call of a library function, or of what such a call returns, inside a program.

    Attributes:
      called: the function's name, or the call that returns it.
      arguments: arrays, calls and constants by name, in order.
    """

    called: str | Call
    arguments: dict[str, Any]


@dataclass(frozen=True)
class _Named:
    """A function of the library in an expression."""

    name: str


@dataclass(frozen=True)
class _Result:
    """The place of a result among a call's arguments."""

    index: int


def call(called: str | Call, names: Sequence[str], given: Sequence[Any]) -> Any:
    """Makes a call part of the program that is traced, or runs it.

    Args:
      called: what is called.
      names: of the arguments; those of results start with `out`.
      given: the arguments.

    Returns:
      what the library's function returns: its results, or one for parts of other calls.
    """
    named = dict(zip(names, given, strict=True))
    for name, value in named.items():
        if not isinstance(value, (jax.Array, Call, bool, int, float, str, type(None))):
            raise invalid(name, f"{type(value).__name__} object", "a JAX array, as another is")
    if called in _PARTS:
        return Call(called, named)
    rule = _RESULTS.get(called if isinstance(called, str) else "layer")
    if rule is None:
        raise invalid(names[0], "a JAX array", "tensors of another framework for this function")
    outputs = [name for name in names if name.startswith("out") and name != "out_type"]
    for name in outputs:
        if named[name] is not None:
            raise invalid(name, "a JAX array", "None: arrays of JAX are not written to")
    kinds = rule(named)
    made = [kind for kind in kinds if kind is not None]
    places = iter(range(len(made)))
    for name, kind in zip(outputs, kinds, strict=True):
        named[name] = None if kind is None else _Result(next(places))
    results = iter(_run(Call(called, named), made))
    found = [None if kind is None else next(results) for kind in kinds]
    return found[0] if outputs == ["out"] else found


def _run(whole: Call, kinds: list[jax.ShapeDtypeStruct]) -> Sequence[Any]:
    arrays = list(_arrays(whole))
    numbers = {id(array): number for number, array in enumerate(arrays)}
    expression = _expression(whole, numbers)
    results: Sequence[Any] = jax.ffi.ffi_call(_target(expression), kinds)(*arrays)
    return results


def _arrays(value: Any) -> Iterator[Any]:
    """Yields the arrays of a call, each once."""
    seen = set()
    for argument in _leaves(value):
        if isinstance(argument, jax.Array) and id(argument) not in seen:
            seen.add(id(argument))
            yield argument


def _leaves(value: Any) -> Iterator[Any]:
    if not isinstance(value, Call):
        yield value
        return
    yield from _leaves(value.called)
    for argument in value.arguments.values():
        yield from _leaves(argument)


def _expression(value: Any, numbers: dict[int, int]) -> Any:
    if isinstance(value, Call):
        called = _Named(value.called) if isinstance(value.called, str) else value.called
        return [_expression(part, numbers) for part in (called, *value.arguments.values())]
    if isinstance(value, jax.Array):
        return [numbers[id(value)]]
    if isinstance(value, _Result):
        return [len(numbers) + value.index]
    return value


def _target(expression: Any) -> str:
    """Returns the name of the operation that an expression is, which JAX knows from then on."""
    # The same in each process: JAX keeps compiled programs on disk.
    name = f"marlin_moe.{hashlib.sha256(repr(expression).encode()).hexdigest()[:32]}"
    with _lock:
        if name not in _targets:
            try:
                import jax_tvm_ffi
            except ImportError as error:
                raise LibraryError(
                    f"arrays of JAX need the PyPI package jax-tvm-ffi: {error}"
                ) from error
            jax_tvm_ffi.register_ffi_target(
                name,
                function("function_of")(_loaded(expression)),
                platform="gpu",
                pass_owned_tensor=True,
            )
            _targets.add(name)
    return name


def _loaded(expression: Any) -> Any:
    """Returns an expression with functions in the place of their names."""
    if isinstance(expression, _Named):
        return function(expression.name)
    return [_loaded(part) for part in expression] if isinstance(expression, list) else expression


def _flatten(weights: ExpertWeights) -> tuple[list[Any], tuple[Any, ...]]:
    arrays = [getattr(weights, name) for name in _ARRAYS]
    return arrays, tuple(getattr(weights, name) for name in _CONSTANTS)


def _unflatten(constants: tuple[Any, ...], arrays: Sequence[Any]) -> ExpertWeights:
    weights = object.__new__(ExpertWeights)
    values = zip([*_ARRAYS, *_CONSTANTS], [*arrays, *constants], strict=True)
    for name, value in values:
        object.__setattr__(weights, name, value)
    # JAX makes trees of things that are no arrays as well.
    if isinstance(weights.b, jax.Array):
        weights.__post_init__()
    return weights


_ARRAYS = [field.name for field in fields(ExpertWeights) if field.init and field.type == "Any"]
_CONSTANTS = [field.name for field in fields(ExpertWeights) if field.init and field.type != "Any"]
jax.tree_util.register_pytree_node(ExpertWeights, _flatten, _unflatten)


# What each function returns, from its arguments by name: shapes and dtypes, None for no result.
_Rule = Callable[[dict[str, Any]], list[jax.ShapeDtypeStruct | None]]


def _kind(shape: Sequence[int], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


def _same_as(name: str) -> _Rule:
    return lambda given: [_kind(given[name].shape, given[name].dtype)]


def _packed(given: dict[str, Any], experts: int, k: int, n: int) -> list[Any]:
    """Returns the shape of packed weights of k rows and n columns, or as many as they get."""
    k, n = given["padded.k"] or k, given["padded.n"] or n
    return [_kind((experts, k // 16, n * _bits(given) // 2), jnp.int32)]


def _bits(given: dict[str, Any]) -> int:
    return _BITS.get(given["b_type"], 8)


def _repack_gptq(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    experts, words, n = given["qweight"].shape
    return _packed(given, experts, words * 32 // _bits(given), n)


def _repack_awq(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    experts, k, words = given["qweight"].shape
    return _packed(given, experts, k, words * 32 // _bits(given))


def _repack_rows(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    experts, n, row_bytes = given["weights"].shape
    return _packed(given, experts, row_bytes * 8 // _bits(given), n)


def _permute_scales(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    experts, groups, columns = given["scales"].shape
    if given["columns_first"]:
        groups, columns = columns, groups
    groups = given["padded.num_groups"] or groups
    n = given["padded.n"] or given["n"] or columns * given["columns_per_scale"]
    dtype = given["scales"].dtype
    if dtype == jnp.float32:
        named = given["s_type"] or given["c_type"] or "kBFloat16"
        dtype = jnp.float16 if named == "kFloat16" else jnp.bfloat16
    several = given["a_type"] == "kS8" and given["group_size"] > 0 and groups > 1
    return [
        _kind((experts, groups, n), dtype),
        _kind((experts,), jnp.float32) if several else None,
    ]


def _permute_bias(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    experts, n = given["bias"].shape
    return [_kind((experts, given["padded.n"] or n), given["bias"].dtype)]


def _permute_zero_points(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    experts, groups, words = given["qzeros"].shape
    words = (given["padded.n"] or words * 8) // 8
    return [_kind((experts, given["padded.num_groups"] or groups, words), jnp.int32)]


def _moe_align(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    size = given["block_size"]
    capacity = function("alignment_capacity")(given["topk_ids"].size, given["num_experts"], size)
    return [_kind(shape, jnp.int32) for shape in ((capacity,), (capacity // size,), (1,))]


def _moe_gemm(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    weights = given["weights"].arguments
    scales = weights["scales"]
    half = weights["c_type"] == "kFloat16" or (
        weights["c_type"] is None and scales.dtype == jnp.float16
    )
    rows = given["a"].shape[0] * given["top_k"]
    return [_kind((rows, scales.shape[2]), jnp.float16 if half else jnp.bfloat16)]


def _act_and_mul(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    rows, columns = given["x"].shape
    return [_kind((rows, columns // 2), given["x"].dtype)]


def _topk_sum(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    rows, columns = given["x"].shape
    return [_kind((rows // given["top_k"], columns), given["x"].dtype)]


def _quantize_activations(given: dict[str, Any]) -> list[jax.ShapeDtypeStruct | None]:
    dtype = jnp.int8 if given["out_type"] == "kS8" else jnp.float8_e4m3fn
    rows = given["x"].shape[0]
    return [_kind(given["x"].shape, dtype), _kind((rows,), jnp.float32)]


_RESULTS: dict[str, _Rule] = {
    "act_and_mul": _act_and_mul,
    "layer": _same_as("x"),
    "moe_align": _moe_align,
    "moe_gemm": _moe_gemm,
    "permute_bias": _permute_bias,
    "permute_scales": _permute_scales,
    "permute_zero_points": _permute_zero_points,
    "quantize_activations": _quantize_activations,
    "repack_awq": _repack_awq,
    "repack_gptq": _repack_gptq,
    "repack_rows": _repack_rows,
    "scale_global_scales": _same_as("global_scales"),
    "sort_rows_by_group": lambda given: 2 * _same_as("g_idx")(given),
    "topk_sum": _topk_sum,
}
