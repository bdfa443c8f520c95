"""Operands of one MoE GEMM on the device: weights in the kernels' layout, and a problem round them.

Outputs and scratch memory lie between guard bytes, outputs start as a NaN that no kernel writes, so
that a write out of place and a row left out both show.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import layouts
import moe_reference
import numpy as np
import torch
from cases import Case, Kernel, WeightKey
from moe_gemm_lib import MoeGemmLibrary

B_TYPES = {"awq_int4": "kU4", "gptq_int4": "kU4B8"}
DTYPES = {"kFloat16": torch.float16, "kBFloat16": torch.bfloat16}
# Half of one unit in the last place, relative.
ROUNDING = {"kFloat16": 2.0**-11, "kBFloat16": 2.0**-8}

# A NaN in both 16-bit types; the kernels' own NaNs are the canonical ones.
_POISON = 0x7FA5
_GUARD_BYTES = 4096
_GUARD = 0xA5


class Weights:
    """Random weights of some experts: as the kernels read them, and to dequantise exactly."""

    def __init__(self, key: WeightKey, experts: int, device: str, seed: int) -> None:
        """Makes the weights; values are scaled so that outputs have a magnitude of about one."""
        self.key = key
        self.experts = experts
        self._device = device
        self._generator = torch.Generator(device=device).manual_seed(seed)
        dtype = DTYPES[key.a_type]
        groups = key.k // key.group_length
        self.num_groups = groups
        self._q = self._nibbles(experts, key.k, key.n)
        spread = torch.rand((experts, groups, key.n), device=device, generator=self._generator)
        self._scales = ((0.5 + spread) * (0.4 / key.k**0.5)).to(dtype)
        self._zeros = self._nibbles(experts, groups, key.n) if key.scheme == "awq_int4" else None
        self._bias = self._normal(experts, key.n).to(dtype)
        self._row_groups = self._make_row_groups()
        self._pack()

    def _nibbles(self, *shape: int) -> torch.Tensor:
        return torch.randint(
            0, 16, shape, dtype=torch.uint8, device=self._device, generator=self._generator
        )

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self._device, generator=self._generator)

    def _make_row_groups(self) -> torch.Tensor:
        """[experts, k] group of each row: shuffled for each expert under act-order."""
        rows = torch.arange(self.key.k, device=self._device) // self.key.group_length
        rows = rows.expand(self.experts, -1)
        if self.key.group_size != layouts.GROUP_ACT_ORDER:
            return rows
        keys = torch.rand(rows.shape, device=self._device, generator=self._generator)
        return rows.gather(1, keys.argsort(dim=1))

    def _pack(self) -> None:
        q = self._q
        self.g_idx = self.perm = None
        if self.key.group_size == layouts.GROUP_ACT_ORDER:
            self.perm, self.g_idx = layouts.sort_rows_by_group(self._row_groups)
            q = layouts.take_rows(q, self.perm)
        self.b = layouts.pack_weights(q)
        self.scales = layouts.permute_scales(self._scales, self.key.group_size)
        self.zero_points = None if self._zeros is None else layouts.pack_zero_points(self._zeros)
        self.bias = layouts.permute_channel(self._bias)

    def dequantised(self, expert: int) -> torch.Tensor:
        """Returns the float64 weights [k, n] of an expert."""
        zeros = None if self._zeros is None else self._zeros[expert]
        return layouts.dequantise(
            self._q[expert], self._scales[expert], zeros, self._row_groups[expert]
        )

    def exact_bias(self) -> torch.Tensor:
        return self._bias.double()


class Guarded:
    """A device buffer of `size` bytes between two guards."""

    def __init__(self, size: int, device: str) -> None:
        self._size = size
        self._all = torch.full((size + 2 * _GUARD_BYTES,), _GUARD, dtype=torch.uint8, device=device)
        self.bytes = self._all[_GUARD_BYTES : _GUARD_BYTES + size]

    def intact(self) -> bool:
        """Whether no byte of either guard has changed."""
        front = self._all[:_GUARD_BYTES]
        behind = self._all[_GUARD_BYTES + self._size :]
        return bool((front == _GUARD).all() and (behind == _GUARD).all())


def expert_map(case: Case) -> np.ndarray:
    """Returns the local number of each expert, -1 for those of other devices."""
    count, local = case.num_experts, case.local_experts
    first = {"first": 0, "last": count - local, "middle": (count - local) // 2}
    if case.local == "spread":
        mine = np.sort(np.random.default_rng(case.seed).permutation(count)[:local])
    elif case.local == "none":
        mine = np.zeros(0, dtype=np.int64)
    else:
        mine = np.arange(first[case.local], first[case.local] + local)
    result = np.full(count, -1, dtype=np.int64)
    result[mine] = np.arange(len(mine))
    return result


def route(case: Case) -> np.ndarray:
    """Returns the expert of each id, [m * top_k]."""
    rng = np.random.default_rng(case.seed + 1)
    experts = case.num_experts
    if case.routing == "one":
        one = moe_reference.random_routing(rng, 1, experts, case.top_k)
        return np.tile(one, case.m)
    if case.routing == "half":
        used = np.sort(rng.permutation(experts)[: max(1, experts // 2)])
        return used[moe_reference.random_routing(rng, case.m, len(used), case.top_k)]
    return moe_reference.random_routing(rng, case.m, experts, case.top_k)


class Problem:
    """All operands of one case, and the library's argument struct that points to them."""

    def __init__(self, library: MoeGemmLibrary, case: Case, weights: Weights, device: str) -> None:
        self.case = case
        self.weights = weights
        self._library = library
        self._device = device
        self._dtype = DTYPES[case.weights.a_type]
        self._generator = torch.Generator(device=device).manual_seed(case.seed)
        self._routing = route(case)
        self._map = expert_map(case) if case.parts > 1 else None
        self.local_expert_of_id = self._routing if self._map is None else self._map[self._routing]
        self._make_activations()
        self.args = self._make_args()
        self._align()
        self.c = Guarded(max(1, case.m * case.top_k) * case.weights.n * 2, device)
        self.args.c = self.c.bytes.data_ptr()
        self.new_workspace()

    def _make_activations(self) -> None:
        case, k = self.case, self.case.weights.k
        stride = k + case.a_padding
        rows = torch.full((max(1, case.m), stride), float("nan"), device=self._device)
        rows[:, :k] = torch.randn(
            (max(1, case.m), k), device=self._device, generator=self._generator
        )
        self._a = rows.to(self._dtype)
        self._topk_weights = None
        if case.topk_weights:
            shape = (max(1, case.m * case.top_k),)
            draws = torch.rand(shape, device=self._device, generator=self._generator)
            self._topk_weights = 0.05 + 0.95 * draws

    def _make_args(self) -> Any:
        case, weights, key = self.case, self.weights, self.case.weights
        type_id = self._library.type_id
        args = self._library.Args(
            m=case.m,
            n=key.n,
            k=key.k,
            num_experts=case.local_experts,
            top_k=case.top_k,
            a_type=type_id(key.a_type),
            b_type=type_id(B_TYPES[key.scheme]),
            c_type=type_id(key.a_type),
            s_type=type_id(key.a_type),
            group_size=key.group_size,
            num_groups=weights.num_groups,
            a=self._a.data_ptr(),
            a_stride=self._a.stride(0),
            b=weights.b.data_ptr(),
            scales=weights.scales.data_ptr(),
            zero_points=_pointer(weights.zero_points),
            bias=weights.bias.data_ptr() if case.bias else None,
            g_idx=_pointer(weights.g_idx),
            perm=_pointer(weights.perm),
            topk_weights=_pointer(self._topk_weights),
            expert_parallel=int(case.flag_parallel),
        )
        args.block_size = case.block_size or self._library.block_size(
            case.m, case.local_experts, case.top_k
        )
        if self._device != "cpu":
            args.stream = torch.cuda.current_stream().cuda_stream
        return args

    def _align(self) -> None:
        alignment = moe_reference.moe_align(
            self._routing, self.case.num_experts, self.args.block_size, self._map
        )
        self._soil_unused(alignment)
        self._alignment = [
            torch.from_numpy(values).to(self._device)
            for values in (
                alignment.sorted_token_ids,
                alignment.expert_ids,
                alignment.num_tokens_past_padded,
            )
        ]
        ids, experts, past = self._alignment
        self.args.sorted_token_ids = ids.data_ptr()
        self.args.expert_ids = experts.data_ptr()
        self.args.num_tokens_past_padded = past.data_ptr()

    def _soil_unused(self, alignment: moe_reference.Alignment) -> None:
        """Makes unused entries look like work, so that a kernel that does it gives wrong rows."""
        used = int(alignment.num_tokens_past_padded[0])
        unused = len(alignment.sorted_token_ids) - used
        ids = max(1, self.case.m * self.case.top_k)
        alignment.sorted_token_ids[used:] = np.arange(unused) % ids
        alignment.expert_ids[used // self.args.block_size :] = 0

    def new_workspace(self) -> None:
        """Gives the arguments a zeroed workspace of just the size the library asks for."""
        status, size = self._library.workspace_size(self.args)
        # A refusal here is for the launch to repeat, where it is checked.
        self.use_workspace(Guarded(size if status.ok else 16, self._device))
        self.workspace.bytes.zero_()

    def use_workspace(self, workspace: Guarded) -> None:
        """Makes the arguments point to a workspace, which may be another problem's."""
        self.workspace = workspace
        self.args.workspace = workspace.bytes.data_ptr()
        self.args.workspace_bytes = workspace.bytes.numel()

    def poison(self) -> None:
        """Fills C with a NaN that tells rows never written."""
        self.c.bytes.view(torch.int16).fill_(_POISON)

    def output_bits(self) -> torch.Tensor:
        """Returns a copy of C, [m * top_k, n], as int16."""
        rows = self.case.m * self.case.top_k
        bits = self.c.bytes.view(torch.int16)[: rows * self.case.weights.n]
        return bits.reshape(rows, self.case.weights.n).clone()

    def values(self, bits: torch.Tensor) -> torch.Tensor:
        """Returns the float64 values of output bits."""
        return bits.view(self._dtype).double()

    def untouched(self, bits: torch.Tensor) -> torch.Tensor:
        """Returns, for each row, whether all of its elements still hold the poison."""
        return (bits == _POISON).all(dim=1)

    def reference(self, ids: np.ndarray | None = None) -> torch.Tensor:
        """Returns the exact output of some ids (None: all), float64 [ids, n].

        Rows of other devices' experts are zero.
        """
        case = self.case
        if ids is None:
            ids = np.arange(case.m * case.top_k)
        rows = torch.from_numpy(ids).to(self._device)
        shape = (len(ids), case.weights.n)
        return moe_reference.reference(
            self._a[rows // case.top_k, : case.weights.k].double(),
            self.weights.dequantised,
            self.local_expert_of_id[ids],
            1,
            torch.zeros(shape, dtype=torch.float64, device=self._device),
            self.weights.exact_bias() if case.bias else None,
            self._topk_weights[rows].double() if self._topk_weights is not None else None,
        )

    def forced_config(self) -> Any:
        """Returns the configuration that the case forces, or None."""
        case = self.case
        if case.tile is None:
            return None
        thread_k, thread_n, threads = case.tile
        return self._library.config(
            thread_k=thread_k,
            thread_n=thread_n,
            threads=threads,
            blocks_per_sm=case.blocks_per_sm,
            stripe_slack=case.stripe_slack,
        )

    def kernel(self, config: Any) -> Kernel:
        """Returns the kernel that a configuration selects for this problem."""
        key = self.case.weights
        block = self.args.block_size
        return Kernel(
            a_type=key.a_type,
            b_type=B_TYPES[key.scheme],
            c_type=key.a_type,
            s_type=key.a_type,
            threads=config.threads,
            thread_m_blocks=max(1, block // 16),
            thread_n_blocks=config.thread_n // 16,
            thread_k_blocks=config.thread_k // 16,
            m_block_size_8=block == 8,
            group_blocks=key.group_size if key.group_size <= 0 else key.group_size // 16,
        )


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def weights_for(cases: list[Case], device: str) -> Iterator[tuple[Case, Weights]]:
    """Yields each case with its weights; neighbours with the same key share one set."""
    largest: dict[WeightKey, int] = {}
    for case in cases:
        largest[case.weights] = max(largest.get(case.weights, 0), case.local_experts)
    weights = None
    for case in cases:
        if weights is None or weights.key != case.weights:
            weights = None  # frees the previous set before the next is made
            seed = zlib.crc32(repr(case.weights).encode())
            weights = Weights(case.weights, largest[case.weights], device, seed)
        yield case, weights
