"""Operands to time the MoE GEMM on: random weights that no launch finds in the L2 cache.

Launches go round several sets of weights, each with a routing of its own.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import moe_reference
import numpy as np
import torch
from bench_points import Layer, Quantisation
from cases import BLOCK_SIZES
from moe_gemm_lib import MoeGemmLibrary
from shim_lib import ShimError
from weights import DTYPES

# Bytes that a round of launches reads at least, several times the L2 cache of an H100.
_COLD_BYTES = 300 << 20
_MOST_SETS = 48
POOL_BYTES = 16 << 30
# Clears the lowest bit of each byte: no byte then is e4m3's NaN, 0x7f or 0xff.
_WITHOUT_NAN = 0xFEFEFEFE - (1 << 32)


class Pool:
    """Random bits for weights and zero points, shared by all layers, and scales of one case."""

    def __init__(self, device: str, pool_bytes: int) -> None:
        self.bits = torch.randint(
            -(2**31), 2**31 - 1, (pool_bytes // 4,), dtype=torch.int32, device=device
        )
        self._case: Quantisation | None = None
        self._scales = torch.empty(0)

    def scales(self, case: Quantisation) -> torch.Tensor:
        """Returns random scales that keep outputs finite, enough for all weights of the pool."""
        if self._case != case:
            self._case, self._scales = None, torch.empty(0)  # frees the last case's
            group = 128 if case.group_size == -1 else case.group_size
            count = self.bits.numel() * 32 // case.b_bits // group
            self._scales = _random_scales(case, count, self.bits.device)
            if case.a_type == case.b_type == "kFE4M3fn":
                self.bits &= _WITHOUT_NAN  # from here on, for the cases that follow as well
            self._case = case
        return self._scales


def _random_scales(case: Quantisation, count: int, device: torch.device) -> torch.Tensor:
    def integers(low: int, high: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(low, high, (count,), dtype=dtype, device=device)

    if case.s_type == "kFE4M3fn":
        return integers(0x60, 0x80, torch.uint8)
    if case.s_type == "kFE8M0fnu":
        return integers(115, 122, torch.uint8)
    if case.a_type == "kS8" and case.group_size != -1:
        return integers(2000, 4096, torch.int16)
    size = {"kU8B128": 2.0**-11, "kFE4M3fn": 2.0**-12}.get(case.b_type, 2.0**-7)
    if case.b_type == "kFE4M3fn" and case.a_type != "kFE4M3fn":
        size *= 2.0**120
    draws = torch.rand(count, dtype=DTYPES[case.c_type], device=device) + 0.5
    return draws * size


class Workload:
    """The operands of one layer, case and number of tokens, in several sets.

    Attributes:
      a, c, topk_weights: on the device, shared by the sets.
      ids: rows of c.
      routings: expert of each id, for each set.
      experts_read: experts on the device that a set's routing has, on average.
      weight_bytes: bytes of weights, scales and zero points that a launch reads, on average.
    """

    def __init__(
        self,
        library: MoeGemmLibrary,
        pool: Pool,
        layer: Layer,
        case: Quantisation,
        tokens: int,
        most_sets: int = _MOST_SETS,
        remote: float = 0.0,
    ) -> None:
        """`remote`: the part of the experts that are on other devices; their blocks have none."""
        self._library = library
        self._layer = layer
        self._case = case
        self._device = pool.bits.device
        self._pool = pool
        self._local_experts = math.ceil(layer.num_experts * (1 - remote))
        self.ids = tokens * layer.top_k
        rows = self.ids if layer.down else tokens
        self.a = self._activations(rows)
        self._a_scales = torch.full((rows,), 2.0**-12, device=self._device)
        shape = (self.ids, layer.n)
        self.c = torch.zeros(shape, device=self._device, dtype=DTYPES[case.c_type])
        self.topk_weights = torch.rand(self.ids, device=self._device)
        # NVFP4's: the exponent deficit of weights and block scales, and a little.
        self._global_scales = torch.full((layer.num_experts,), 2.0**112, device=self._device)
        self._make_routing(tokens, most_sets)
        self._make_base(rows)

    def _activations(self, rows: int) -> torch.Tensor:
        values = torch.randn((rows, self._layer.k), device=self._device)
        if self._case.a_type == "kS8":
            return (values * 30).round().clamp(-127, 127).to(torch.int8)
        if self._case.a_type == "kFE4M3fn":
            return (values * 30).to(torch.float8_e4m3fn)
        return values.to(DTYPES[self._case.a_type])

    def _make_routing(self, tokens: int, most_sets: int) -> None:
        layer = self._layer
        rng = np.random.default_rng(tokens)
        first = moe_reference.random_routing(rng, tokens, layer.num_experts, layer.top_k)
        read = max(1, len(self._read(first))) * self._case.expert_bytes(layer)
        all_bytes = self._case.weight_bytes(layer) * layer.num_experts
        fitting = self._pool.bits.numel() * 4 // all_bytes
        count = max(1, min(most_sets, fitting, max(2, math.ceil(_COLD_BYTES / read))))
        self.routings = [first]
        for _ in range(count - 1):
            self.routings.append(
                moe_reference.random_routing(rng, tokens, layer.num_experts, layer.top_k)
            )
        self.experts_read = float(np.mean([len(self._read(r)) for r in self.routings]))
        self.weight_bytes = self.experts_read * self._case.expert_bytes(layer)

    def _read(self, routing: np.ndarray) -> np.ndarray:
        """Returns the experts that a launch on the device reads."""
        experts = np.unique(routing)
        return experts[experts < self._local_experts]

    def _make_base(self, rows: int) -> None:
        layer, case, type_id = self._layer, self._case, self._library.type_id
        nvfp4 = case.s_type == "kFE4M3fn"  # int8 activations would take them as well
        self._base = {
            "m": rows,
            "n": layer.n,
            "k": layer.k,
            "num_experts": layer.num_experts,
            "top_k": 1 if layer.down else layer.top_k,
            "group_size": case.group_size,
            "num_groups": 1 if case.group_size == -1 else layer.k // case.group_size,
            "a_type": type_id(case.a_type),
            "b_type": type_id(case.b_type),
            "c_type": type_id(case.c_type),
            "s_type": type_id(case.s_type),
            "a": self.a.data_ptr(),
            "a_scales": self._a_scales.data_ptr(),
            "a_stride": layer.k,
            "global_scales": self._global_scales.data_ptr() if nvfp4 else None,
            "c": self.c.data_ptr(),
            "topk_weights": self.topk_weights.data_ptr() if layer.down else None,
            "expert_parallel": int(self._local_experts < layer.num_experts),
        }
        args = self._library.Args(**self._base, block_size=BLOCK_SIZES[-1])
        status, size = self._library.max_workspace_size(args)
        if not status.ok:
            raise ShimError(f"max_workspace_size: {status.name}: {status.message}")
        self._workspace = torch.zeros(size, dtype=torch.uint8, device=self._device)

    def for_library(self, library: MoeGemmLibrary) -> Workload:
        """Returns the same operands for another library, with a workspace of its own."""
        other = copy.copy(self)
        other._library = library
        other._make_base(self.a.shape[0])
        return other

    def chosen_block_size(self) -> int:
        return self._library.block_size(self._library.Args(**self._base))

    def has_kernel(self, block_size: int, config: Any) -> bool:
        """Whether a configuration names a kernel that was built for the block size."""
        args = self._library.Args(**self._base, block_size=block_size)
        return self._library.workspace_size(args, config)[0].ok

    def sets(self, block_size: int) -> list[Any]:
        """Returns the argument structs for a block size; what they point to stays with self."""
        self._operands = [self.operands(i, block_size) for i in range(len(self.routings))]
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # the timing loops run on streams of their own
        return [self._set(operands, block_size) for operands in self._operands]

    def operands(self, index: int, block_size: int) -> dict[str, torch.Tensor]:
        """Returns, flat, what one set has of its own: weights, and its routing in blocks."""
        found = self._weights(index)
        experts = np.arange(self._layer.num_experts)
        alignment = moe_reference.moe_align(
            self.routings[index],
            self._layer.num_experts,
            block_size,
            expert_map=np.where(experts < self._local_experts, experts, -1),
        )
        for name in ("sorted_token_ids", "expert_ids", "num_tokens_past_padded"):
            found[name] = torch.from_numpy(getattr(alignment, name)).to(self._device)
        return found

    def _weights(self, index: int) -> dict[str, torch.Tensor]:
        """Returns weights, scales and zero points of one set, flat."""
        layer, case, bits = self._layer, self._case, self._pool.bits
        words = layer.num_experts * case.weight_bytes(layer) // 4
        scales = layer.num_experts * case.scales_per_expert(layer)
        found = {
            "b": bits[index * words : (index + 1) * words],
            "scales": self._pool.scales(case)[index * scales : (index + 1) * scales],
        }
        if case.b_type == "kU4":
            # From the far end of the pool, so that they are not some set's weights in cache.
            far = bits.numel() - (index + 1) * (scales // 8)
            first = far // 4 * 4  # whole 16 bytes
            found["zero_points"] = bits[first : first + scales // 8]
        return found

    def reads(self, index: int) -> tuple[list[tuple[int, int]], torch.Tensor]:
        """Returns address and bytes of an expert of what one set reads of its weights, and its
        experts' numbers on the device."""
        found = [
            (tensor.data_ptr(), tensor.numel() * tensor.itemsize // self._layer.num_experts)
            for tensor in self._weights(index).values()
        ]
        experts = self._read(self.routings[index]).astype(np.int32)
        return found, torch.from_numpy(experts).to(self._device)

    def _set(self, operands: dict[str, torch.Tensor], block_size: int) -> Any:
        return self._library.Args(
            **self._base,
            **{name: tensor.data_ptr() for name, tensor in operands.items()},
            block_size=block_size,
            workspace=self._workspace.data_ptr(),
            workspace_bytes=self._workspace.numel(),
        )


def launches_of(sets: int, microseconds: float) -> int:
    """Returns how many launches a timed batch has: whole rounds of the sets, not too short."""
    return sets * math.ceil(8 / sets) if microseconds < 500 else sets


def repeats_of(microseconds: float, seconds: float) -> int:
    """Returns how many batches that take some microseconds each fit into the time for a point."""
    return min(max(int(seconds * 1e6 / microseconds), 3), 50)
