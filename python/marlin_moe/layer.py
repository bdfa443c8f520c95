"""The experts of a MoE layer in one call.

    out[t, :] = sum over j of topk_weights[t, j] * down(silu(gate(x[t, :])) * up(x[t, :]))

with the three matrices of expert topk_ids[t, j]: align tokens to experts, GEMM 1 (gate and up side
by side), SiLU and multiply, GEMM 2 (down, which applies the top-k weights), sum. With 8-bit
activations each GEMM's are quantised before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ._call import Call, Empty, check_alignment
from .activations import QuantizedActivations, quantize_activations, silu_and_mul, topk_sum
from .align import Alignment, alignment_capacity, moe_align, moe_gemm_block_size
from .errors import MarlinMoeError, invalid
from .gemm import ExpertWeights, Gemm
from .scalar_type import ScalarType, to_scalar_type, type_of_tensor
from .tensor import Tensor, TensorView
from .workspace import Workspace, shared_workspace

_ALIGNMENT = 256
_INT32 = ("int32", "uint32")


def fused_moe(
    x: Tensor,
    gate_up: ExpertWeights,
    down: ExpertWeights,
    topk_weights: Tensor,
    topk_ids: Tensor,
    *,
    a_type: ScalarType | str | None = None,
    num_experts: int | None = None,
    expert_map: Tensor | None = None,
    block_size: int | None = None,
    out: Tensor | None = None,
    workspace: Workspace | None = None,
    stream: Any = None,
    empty: Empty | None = None,
) -> Any:
    """Runs the experts of a MoE layer.

    Args:
      x: float16 or bfloat16 [m, hidden].
      gate_up: weights with k = hidden and n = 2 * intermediate, gate first.
      down: weights with k = intermediate and n = hidden.
      topk_weights: float32 [m, top_k].
      topk_ids: int32 [m, top_k], expert of each token's choices; those that are no expert count for
        nothing.
      a_type: `kS8` or `kFE4M3fn`: what to quantise activations to; None: the dtype of x.
      num_experts: experts of all devices; None: those of the weights. More need an `expert_map`.
      expert_map: int32 [num_experts], expert parallelism: local expert of each, -1 for those
        elsewhere. The result then is this device's part of the sum.
      block_size: ids of a block; None: as moe_gemm_block_size() says.
      out: the dtype of x, [m, hidden].
      workspace: keeps all that lies between the steps; None: one shared by the calls on a stream.
      stream: see the package's description, as for `empty`.
      empty: what makes the result and scratch memory.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    with Call(stream, x, empty) as call:
        source = call.tensor(
            "x", x, ("float16", "bfloat16"), (None, None), "[m, hidden]", rows=True
        )
        m, hidden = source.shape
        ids = call.tensor("topk_ids", topk_ids, ("int32",), (m, None), "[m, top_k]")
        factors = call.tensor(
            "topk_weights", topk_weights, ("float32",), ids.shape, "[m, top_k], as topk_ids has"
        )
        layer = _Layer(call, source, gate_up, down, a_type)
        result, view = call.output("out", out, (source.dtype,), (m, hidden), "[m, hidden]")
        if ids.size == 0:
            if m:
                call.zero(view)
            return result
        experts = _global_experts(num_experts, layer.num_experts, expert_map)
        routing = _Routing(ids, factors, experts, expert_map)
        memory = shared_workspace(call) if workspace is None else workspace
        with memory.lock:
            layer.run(routing, block_size, memory, view)
        return result


@dataclass(frozen=True)
class _Routing:
    """Which experts see which tokens."""

    ids: TensorView
    weights: TensorView
    num_experts: int
    expert_map: Tensor | None


class _Layer:
    """The weights of a layer, checked against its input, and the steps."""

    def __init__(
        self,
        call: Call,
        x: TensorView,
        gate_up: ExpertWeights,
        down: ExpertWeights,
        a_type: ScalarType | str | None,
    ) -> None:
        self._call = call
        self._x = x
        self._type = type_of_tensor("x", None, "x", x.dtype)
        self._a_type = _quantised_type(a_type)
        hidden = x.shape[1]
        gate_up_bits = to_scalar_type("gate_up.b_type", gate_up.b_type).bits
        down_bits = to_scalar_type("down.b_type", down.b_type).bits
        first = call.tensor(
            "gate_up.b",
            gate_up.b,
            _INT32,
            (None, hidden // 16, None),
            f"[num_experts, hidden / 16, 2 * intermediate * bits / 2] with hidden = {hidden}",
        )
        self.num_experts = first.shape[0]
        self.intermediate = first.shape[2] // gate_up_bits
        second = call.tensor(
            "down.b",
            down.b,
            _INT32,
            (self.num_experts, self.intermediate // 16, hidden * down_bits // 2),
            "[num_experts, intermediate / 16, hidden * bits / 2], as gate_up.b and x have",
        )
        self._gate_up = self._with_factor("gate_up", dataclasses.replace(gate_up, b=first))
        self._down = self._with_factor("down", dataclasses.replace(down, b=second))
        if self._a_type is not None:
            self._check_quantisable()

    def _with_factor(self, name: str, weights: ExpertWeights) -> ExpertWeights:
        """Returns weights whose a_factor is checked: without it or global scales, or with a wrong
        one, results are wrong by that factor."""
        factor = self._call.optional(
            f"{name}.a_factor", weights.a_factor, ("float32",), (1,), "(1,)"
        )
        needed = self._a_type is ScalarType.S8 and weights.group_size > 0
        if needed and factor is None and weights.global_scales is None:
            raise invalid(
                f"{name}.global_scales",
                "None",
                "what permute_scales() returned with the scales: S8 activations need it, or the "
                "a_factor of weights packed elsewhere, where scales are in groups (group_size = "
                f"{weights.group_size})",
            )
        if factor is not None and not needed:
            allowed = "None: only S8 activations and scales in groups have one"
            raise invalid(f"{name}.a_factor", "a tensor", allowed)
        return dataclasses.replace(weights, a_factor=factor)

    def _check_quantisable(self) -> None:
        """Checks what quantize_activations() would refuse of x."""
        hidden, stride = self._x.shape[1], self._x.row_stride()
        check_alignment("x", self._x.pointer, 16)
        if stride < hidden or stride % 8:
            allowed = f"a multiple of 8, at least hidden = {hidden}"
            raise invalid("x", f"row stride {stride}", allowed)

    def run(
        self, routing: _Routing, block_size: int | None, workspace: Workspace, out: TensorView
    ) -> None:
        """Launches all steps, after checking the arguments of both GEMMs."""
        top_k = routing.ids.shape[1]
        size = block_size or moe_gemm_block_size(
            self._x.shape[0], routing.num_experts, top_k, self._a_type or self._type
        )
        parts = self._carve(routing, size, workspace)
        shared: dict[str, Any] = {"stream": self._call.stream, "empty": self._new}
        blocks = Alignment(
            parts["sorted_token_ids"], parts["expert_ids"], parts["num_tokens_past_padded"], size
        )
        first = self._gemm("gate_up", parts, blocks, top_k)
        second = self._gemm("down", parts, blocks, 1, routing.weights)
        with _step("moe_align"):
            moe_align(
                routing.ids,
                num_experts=routing.num_experts,
                block_size=size,
                expert_map=routing.expert_map,
                drop_remote=True,
                out=blocks,
                workspace=workspace,
                **shared,
            )
        with _step("gate_up"):
            self._quantise("gate_up", parts)
            first.launch(workspace)
        with _step("silu_and_mul"):
            silu_and_mul(parts["gate_up"], out=parts["activated"], **shared)
        with _step("down"):
            self._quantise("down", parts)
            second.launch(workspace)
        with _step("topk_sum"):
            topk_sum(
                parts["down"],
                top_k=top_k,
                topk_ids=routing.ids,
                num_experts=routing.num_experts,
                expert_map=routing.expert_map,
                out=out,
                **shared,
            )

    def _gemm(
        self,
        name: str,
        parts: dict[str, TensorView],
        blocks: Alignment,
        top_k: int,
        topk_weights: TensorView | None = None,
    ) -> Gemm:
        """Returns a GEMM that is checked and ready to launch."""
        source, weights = self._operands(name, parts)
        scales = None
        if self._a_type is not None:
            source, scales = parts[f"{name} values"], parts[f"{name} scales"]
        with _step(name):
            gemm = Gemm(self._call, source, weights, self._a_type, self._type, top_k)
            gemm.take_activations(scales, topk_weights)
            gemm.take_alignment(blocks)
            gemm.take_output(parts[name])
            gemm.plan()
            gemm.check_pointers()
        return gemm

    def _operands(
        self, name: str, parts: dict[str, TensorView]
    ) -> tuple[TensorView, ExpertWeights]:
        """Returns a GEMM's activations, before they are quantised, and its weights."""
        if name == "gate_up":
            return self._x, self._gate_up
        return parts["activated"], self._down

    def _quantise(self, name: str, parts: dict[str, TensorView]) -> None:
        """Quantises a GEMM's activations, where that is asked."""
        if self._a_type is None:
            return
        source, weights = self._operands(name, parts)
        quantize_activations(
            source,
            out_type=self._a_type,
            factor=weights.a_factor,
            out=QuantizedActivations(parts[f"{name} values"], parts[f"{name} scales"]),
            stream=self._call.stream,
        )

    def _carve(
        self, routing: _Routing, block_size: int, workspace: Workspace
    ) -> dict[str, TensorView]:
        """Divides a buffer of the workspace into what lies between the steps."""
        m, hidden = self._x.shape
        ids, inner, dtype = routing.ids.size, self.intermediate, self._x.dtype
        capacity = alignment_capacity(ids, routing.num_experts, block_size)
        parts: dict[str, tuple[tuple[int, ...], str]] = {
            "sorted_token_ids": ((capacity,), "int32"),
            "expert_ids": ((capacity // block_size,), "int32"),
            "num_tokens_past_padded": ((1,), "int32"),
            "gate_up": ((ids, 2 * inner), dtype),
            "activated": ((ids, inner), dtype),
            "down": ((ids, hidden), dtype),
        }
        if self._a_type is not None:
            byte = self._a_type.dtypes[0]
            parts |= {
                "gate_up values": ((m, hidden), byte),
                "gate_up scales": ((m,), "float32"),
                "down values": ((ids, inner), byte),
                "down scales": ((ids,), "float32"),
            }
        device = self._call.device
        views, used = {}, 0
        for name, (shape, kind) in parts.items():
            view = TensorView(used, shape, kind, device)
            views[name] = view
            used += -(-view.size * view.dtype_bytes // _ALIGNMENT) * _ALIGNMENT
        start = workspace.buffer(self._call, "layer", used).pointer
        return {
            name: dataclasses.replace(view, pointer=start + view.pointer)
            for name, view in views.items()
        }

    def _new(self, shape: tuple[int, ...], dtype: str, device: int) -> Any:
        del device  # the call's own
        return self._call.new("workspace", shape, dtype)


def _global_experts(given: int | None, local: int, expert_map: Tensor | None) -> int:
    """Returns the experts of all devices; without a map all of them have weights here."""
    if given is None:
        return local
    if expert_map is None and given > local:
        allowed = f"at most {local}, as the weights have, where there is no expert_map"
        raise invalid("num_experts", given, allowed)
    return given


def _quantised_type(given: ScalarType | str | None) -> ScalarType | None:
    """Returns the 8-bit type of a GEMM's activations, None if they stay as they are."""
    if given is None:
        return None
    a_type = to_scalar_type("a_type", given)
    if a_type in (ScalarType.S8, ScalarType.FE4M3FN):
        return a_type
    allowed = "None (the dtype of x), S8, FE4M3FN"
    raise invalid("a_type", a_type.name, allowed)


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Names the step in what it raises."""
    try:
        yield
    except MarlinMoeError as error:
        raise type(error)(f"{name}: {error}") from error
