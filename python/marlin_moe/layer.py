"""The experts of a MoE layer in one call."""

from __future__ import annotations

from typing import Any

from ._function import Function, needed
from ._library import function
from ._tuning_file import tuned
from .errors import invalid
from .weights import ExpertWeights

_moe_layer = Function(
    "moe_layer",
    "gate_up",
    "down",
    "num_experts",
    "expert_map",
    "block_size",
    "apply_router_weight_on_input",
    "activation",
    "interleaved",
    "alpha",
    "limit",
    "tuning",
)


class MoeLayer:
    """The experts of a MoE layer, checked once.

        out[t, :] = sum over j of topk_weights[t, j] * down(act(gate(x[t, :])) * up(x[t, :]))

    with the three matrices of expert topk_ids[t, j]. A call launches five kernels (seven with 8-bit
    activations): align tokens to experts, GEMM 1 (gate and up side by side), the activation, GEMM 2
    (down), sum.

    Attributes:
      gate_up: as it was given, as are the following.
      down: weights of GEMM 2.
      num_experts: experts of all devices.
      expert_map: local expert of each.
    """

    def __init__(
        self,
        gate_up: ExpertWeights,
        down: ExpertWeights,
        *,
        num_experts: int | None = None,
        expert_map: Any = None,
        block_size: int | None = None,
        apply_router_weight_on_input: bool = False,
        activation: str = "silu",
        interleaved: bool = False,
        alpha: float | None = None,
        limit: float | None = None,
        tuning: str | None = None,
    ) -> None:
        """Checks that the weights are of one layer, and that there are kernels for them.

        Args:
          gate_up: weights with k = hidden and n = 2 * intermediate, gate first; n = intermediate
            without an activation. What they were prepared for says what the layer quantises its own
            activations to.
          down: weights with k = intermediate and n = hidden.
          num_experts: experts of all devices; None: those of the weights. More need an
            `expert_map`.
          expert_map: int32 [num_experts], expert parallelism: local expert of each, -1 for those
            elsewhere. Results then are this device's part of the sum.
          block_size: ids of a block; None: as tuning says, or that of the kernel which is likely to
            be the fastest on the device.
          apply_router_weight_on_input: whether topk_weights multiply the input of GEMM 1 rather
            than the output of GEMM 2, as in Llama 4.
          activation: between the GEMMs: `silu`, as silu_and_mul() computes it, `gelu`, `gelu_tanh`
            (gelu_and_mul() and its approximation), `swigluoai` (swigluoai_and_mul()), or `none`:
            GEMM 2 takes what GEMM 1 makes.
          interleaved: whether gates are the even columns of gate_up, for weights of one's own
            preparation: the from_ functions put gates first.
          alpha: of `swigluoai`; None: 1.702.
          limit: likewise; None: 7.
          tuning: file that tune() has written; None: the one that the environment variable
            MARLIN_MOE_TUNING names. Layers that it does not know have the library's choice.
        """
        gated = activation != "none"
        for name, weights, parts in (("gate_up", gate_up, 1 + gated), ("down", down, 1)):
            if needed(name, weights, ExpertWeights).column_parts not in (0, parts):
                made = {1: "a single matrix", 2: "gate and up"}
                raise invalid(
                    name,
                    f"weights prepared as {made[3 - parts]}",
                    f"{made[parts]}; see `gate_up` of ExpertWeights",
                )
        if interleaved is True and gate_up.column_parts == 2:
            raise invalid("interleaved", True, "False: gate_up was prepared with gates first")
        found = tuned(tuning, gate_up, down, num_experts)
        called = _moe_layer(
            gate_up.handle,
            down.handle,
            num_experts,
            expert_map,
            block_size,
            apply_router_weight_on_input,
            activation,
            interleaved,
            alpha,
            limit,
            found,
        )
        self._block_size = block_size
        self._tuned = found
        self.gate_up = gate_up
        self.down = down
        self.num_experts = num_experts
        self.expert_map = expert_map
        self._run = Function(called, "x", "topk_weights", "topk_ids", "out")

    def block_size(self, tokens: int, top_k: int) -> int:
        """Returns the ids of a block in calls with so many tokens, for moe_align() and moe_gemm().

        Args:
          tokens: rows of x.
          top_k: experts of a token.
        """
        return int(
            function("layer_block_size")(
                self.gate_up.handle,
                self.down.handle,
                self.num_experts,
                self._block_size,
                self._tuned,
                tokens,
                top_k,
            )
        )

    def __call__(self, x: Any, topk_weights: Any, topk_ids: Any, *, out: Any = None) -> Any:
        """Runs the experts.

        Args:
          x: the weights' c_type [m, hidden]; rows may have gaps, of multiples of 8.
          topk_weights: float32 [m, top_k].
          topk_ids: int32 [m, top_k], expert of each token's choices; those that are no expert count
            for nothing.
          out: the dtype of x, [m, hidden].

        Returns:
          `out`, or the tensor that was made in its place.
        """
        made = self._run(x, topk_weights, topk_ids, out)
        return out if made is None else made


def fused_moe(
    x: Any,
    gate_up: ExpertWeights,
    down: ExpertWeights,
    topk_weights: Any,
    topk_ids: Any,
    *,
    num_experts: int | None = None,
    expert_map: Any = None,
    block_size: int | None = None,
    apply_router_weight_on_input: bool = False,
    activation: str = "silu",
    interleaved: bool = False,
    alpha: float | None = None,
    limit: float | None = None,
    tuning: str | None = None,
    out: Any = None,
) -> Any:
    """Runs the experts of a MoE layer that is made for this call; see MoeLayer.

    Args:
      x: as a call of MoeLayer takes it, as are topk_weights, topk_ids and out.
      gate_up: as MoeLayer takes it, as are the others.
      down: weights of the second GEMM.
      topk_weights: float32 [m, top_k].
      topk_ids: int32 [m, top_k].
      num_experts: experts of all devices.
      expert_map: int32 [num_experts].
      block_size: ids of a block.
      apply_router_weight_on_input: where topk_weights multiply.
      activation: between the GEMMs.
      interleaved: whether gates are the even columns of gate_up.
      alpha: of `swigluoai`.
      limit: likewise.
      tuning: file that tune() has written.
      out: where the result goes.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    layer = MoeLayer(
        gate_up,
        down,
        num_experts=num_experts,
        expert_map=expert_map,
        block_size=block_size,
        apply_router_weight_on_input=apply_router_weight_on_input,
        activation=activation,
        interleaved=interleaved,
        alpha=alpha,
        limit=limit,
        tuning=tuning,
    )
    return layer(x, topk_weights, topk_ids, out=out)
