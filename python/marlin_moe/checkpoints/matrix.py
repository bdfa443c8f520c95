"""Weights of all experts in one of the three packings that the preparation takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from .. import _arrays
from ..errors import invalid

_BITS = {"kU4": 4, "kU4B8": 4, "kU8B128": 8, "kFE4M3fn": 8, "kFE2M1f": 4}
# Axis of the output columns.
_COLUMN_AXIS = {"gptq": 2, "awq": 2, "rows": 1}


@dataclass(frozen=True)
class Matrix:
    """Weights of all experts, as a checkpoint has them but for the names.

    Attributes:
      packing: how `weights` is packed, and which function repacks it.
      weights: gptq: int32 [experts, k * bits / 32, n]; awq: int32 [experts, k, n * bits / 32];
        rows: uint8 [experts, n, k * bits / 8].
      b_type: type of the weights.
      group_size: rows that share a scale; -1: all; 0: g_idx says which.
      scales: [experts, n, groups] with columns_first, [experts, groups, n] without: floats of any
        width, or bytes of s_type.
      columns_first: see `scales`.
      s_type: `kFE4M3fn` or `kFE8M0fnu`; None: floats.
      zero_points: int32 [experts, groups, n / 8] in AWQ's order.
      global_scales: float32 [experts].
      bias: floats [experts, n].
      g_idx: int32 [experts, k].
      column_parts: 2 for gate and up side by side.
    """

    packing: Literal["gptq", "awq", "rows"]
    weights: Any
    b_type: str
    group_size: int
    scales: Any
    columns_first: bool = False
    s_type: str | None = None
    zero_points: Any = None
    global_scales: Any = None
    bias: Any = None
    g_idx: Any = None
    column_parts: int = 1

    @property
    def num_experts(self) -> int:
        return int(self.weights.shape[0])

    @property
    def n(self) -> int:
        length = int(self.weights.shape[_COLUMN_AXIS[self.packing]])
        return length * 32 // _BITS[self.b_type] if self.packing == "awq" else length

    @property
    def k(self) -> int:
        length = int(self.weights.shape[3 - _COLUMN_AXIS[self.packing]])
        if self.packing == "awq":
            return length
        return length * (32 if self.packing == "gptq" else 8) // _BITS[self.b_type]


def joined(parts: list[Matrix], gate_up: str | None) -> Matrix:
    """Puts gate and up side by side: two matrices, or one that has both.

    Args:
      parts: one matrix, or gate and up.
      gate_up: how one matrix has both: `concatenated`, gate first, or `interleaved`, gate in the
        even columns and up in the odd ones; None: it does not.
    """
    allowed = (None, "concatenated", "interleaved")
    if gate_up not in allowed:
        raise invalid("gate_up", repr(gate_up), ", ".join(map(str, allowed)))
    if len(parts) == 2:
        if gate_up == "interleaved":
            raise invalid("gate_up", "interleaved", "concatenated, None: gate and up were given")
        return _side_by_side(*parts)
    [matrix] = parts
    if gate_up is None:
        return matrix
    if matrix.n % 2 != 0:
        raise invalid("gate_up", gate_up, f"None where n = {matrix.n}, an odd number")
    return replace(matrix if gate_up == "concatenated" else _deinterleaved(matrix), column_parts=2)


def _side_by_side(gate: Matrix, up: Matrix) -> Matrix:
    if gate.weights.shape != up.weights.shape or gate.group_size != up.group_size:
        sizes = f"n = {up.n}, k = {up.k}, {up.num_experts} experts, group_size {up.group_size}"
        wanted = f"{gate.n}, {gate.k}, {gate.num_experts}, {gate.group_size}, as gate has"
        raise invalid("tensors[1]", sizes, wanted)
    for name in ("g_idx", "global_scales"):
        first, second = getattr(gate, name), getattr(up, name)
        if first is not None and not bool((first == second).all()):
            raise invalid("tensors[1]", f"other {name} than gate's", "the same ones")
    if (gate.bias is None) != (up.bias is None):
        raise invalid("tensors", "a bias of one projection", "biases of both, or none")

    def join(name: str, axis: int) -> Any:
        first, second = getattr(gate, name), getattr(up, name)
        return None if first is None else _arrays.concatenate([first, second], axis)

    return replace(
        gate,
        weights=join("weights", _COLUMN_AXIS[gate.packing]),
        scales=join("scales", 1 if gate.columns_first else 2),
        zero_points=join("zero_points", 2),
        bias=join("bias", 1),
        column_parts=2,
    )


def _deinterleaved(matrix: Matrix) -> Matrix:
    """Sorts columns g0 u0 g1 u1 ... to g0 g1 ... u0 u1 ..."""
    if matrix.packing != "rows" or not matrix.columns_first:
        raise invalid(
            "gate_up", "interleaved", "concatenated, None: several columns share a word here"
        )

    def sort(array: Any) -> Any:
        return None if array is None else _arrays.concatenate([array[:, 0::2], array[:, 1::2]], 1)

    return replace(
        matrix, weights=sort(matrix.weights), scales=sort(matrix.scales), bias=sort(matrix.bias)
    )
