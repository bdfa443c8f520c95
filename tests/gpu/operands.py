"""Operands of one MoE GEMM on the device: a problem round some weights.

Outputs and scratch memory lie between guard bytes, outputs start as a NaN that no kernel writes, so
that a write out of place and a row left out both show.

Everything is made and compared on a device called home, and only copied to the one that the GEMM
runs on. They are the same but under compute-sanitizer, which then sees no kernel but the library's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import moe_reference
import numpy as np
import torch
from cases import GROUP_CHANNEL, SM90_THREADS, Case, Kernel
from moe_gemm_lib import MoeGemmLibrary
from number_formats import decode
from weights import DTYPES, Weights

# Largest finite numbers of 8-bit activations.
_A8_LARGEST = {"kS8": 127.0, "kFE4M3fn": 448.0}

TYPE_FIELDS = ("a_type", "b_type", "c_type", "s_type")

# A NaN in both 16-bit types; the kernels' own NaNs are the canonical ones.
_POISON = 0x7FA5
_GUARD_BYTES = 4096
_GUARD = 0xA5


class Guarded:
    """A device buffer of `size` bytes between two guards."""

    def __init__(self, size: int, device: str, home: str) -> None:
        self._size = size
        self._home = home
        self._all = torch.full((size + 2 * _GUARD_BYTES,), _GUARD, dtype=torch.uint8, device=home)
        self._all = self._all.to(device)
        self.bytes = self._all[_GUARD_BYTES : _GUARD_BYTES + size]
        # Not that of `bytes`, which has none if it is empty.
        self.address = self._all.data_ptr() + _GUARD_BYTES

    def intact(self) -> bool:
        """Whether no byte of either guard has changed."""
        front = self._all[:_GUARD_BYTES].to(self._home)
        behind = self._all[_GUARD_BYTES + self._size :].to(self._home)
        return bool((front == _GUARD).all() and (behind == _GUARD).all())

    def fill(self, pattern: int, dtype: torch.dtype) -> None:
        """Sets the buffer to a repeated number."""
        if self._all.device.type == torch.device(self._home).type:
            self.bytes.view(dtype).fill_(pattern)
            return
        words = self._size // dtype.itemsize
        self.bytes.copy_(torch.full((words,), pattern, dtype=dtype).view(torch.uint8))

    def home_bytes(self) -> torch.Tensor:
        """Returns the buffer's bytes on the device home, copied if that is another one."""
        return self.bytes.to(self._home)


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


def _renumber(values: np.ndarray, number: int, others: Sequence[int]) -> None:
    """Writes other numbers, in turn, where `number` stands; with none, leaves it."""
    if others:
        places = np.flatnonzero(values == number)
        values[places] = np.resize(np.array(others, values.dtype), len(places))


class Problem:
    """All operands of one case, and the library's argument struct that points to them."""

    def __init__(
        self, library: MoeGemmLibrary, case: Case, weights: Weights, device: str, home: str
    ) -> None:
        self.case = case
        self.weights = weights
        self.home = home
        self._library = library
        self._device = device
        self._dtype = DTYPES[case.weights.c_type]
        self._generator = torch.Generator(device=home).manual_seed(case.seed)
        self._routing = route(case)
        self._map = expert_map(case) if case.parts > 1 else None
        self.local_expert_of_id = self._routing if self._map is None else self._map[self._routing]
        self._make_activations()
        self._topk_weights = None
        if case.topk_weights:
            shape = (max(1, case.m * case.top_k),)
            draws = torch.rand(shape, device=home, generator=self._generator)
            self._topk_weights = 0.05 + 0.95 * draws
        self.args = self._make_args()
        self._align()
        self.c = Guarded(max(1, case.m * case.top_k) * case.weights.n * 2, device, home)
        self.args.c = self.c.bytes.data_ptr()
        self.new_workspace()

    def _make_activations(self) -> None:
        """Sets the rows of A; what lies between them is not a number, or as large as can be."""
        case, key = self.case, self.case.weights
        shape = (max(1, case.m), key.k)
        values = torch.randn(shape, device=self.home, generator=self._generator)
        if key.extreme:
            values.fill_(4.0)
        self._a_scales = None
        if key.a_bits == 16:
            codes, filler = values.to(DTYPES[key.a_type]), float("nan")
        else:
            codes, filler = self._quantised(values), 0x7F
        rows = codes.new_full((shape[0], key.k + case.a_padding), filler)
        rows[:, : key.k] = codes
        self._a = rows

    def _quantised(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the codes of 8-bit activations, and keeps the scale of each row."""
        a_type = self.case.weights.a_type
        scales = values.abs().amax(dim=1, keepdim=True) / _A8_LARGEST[a_type]
        self._a_scales = scales[:, 0].clone()
        units = values / scales
        if a_type == "kS8":
            return units.round().clamp(-127, 127).to(torch.int8).view(torch.uint8)
        return units.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8)

    def _exact_a(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the float64 activations of some rows, with their scales."""
        codes = self._a[rows, : self.case.weights.k]
        if self._a_scales is None:
            return codes.double()
        values = decode(codes, self.case.weights.a_type)
        return values * self._a_scales[rows].double()[:, None]

    def _on_device(self, tensor: torch.Tensor | None) -> int | None:
        """Copies an operand to the device, keeps it, and returns its address."""
        if tensor is None:
            return None
        copy = tensor.to(self._device)
        self._kept.append(copy)
        return copy.data_ptr()

    def _make_args(self) -> Any:
        case, weights, key = self.case, self.weights, self.case.weights
        self._kept: list[torch.Tensor] = []
        types = {name: self._library.type_id(getattr(key, name)) for name in TYPE_FIELDS}
        args = self._library.Args(
            **types,
            m=case.m,
            n=key.n,
            k=key.k,
            num_experts=case.local_experts,
            top_k=case.top_k,
            group_size=key.group_size,
            num_groups=weights.num_groups,
            a=self._on_device(self._a),
            a_stride=self._a.stride(0),
            a_scales=self._on_device(self._a_scales),
            b=weights.b.data_ptr(),
            scales=weights.scales.data_ptr(),
            zero_points=_pointer(weights.zero_points),
            global_scales=_pointer(weights.global_scales),
            bias=weights.bias.data_ptr() if case.bias else None,
            g_idx=_pointer(weights.g_idx),
            perm=_pointer(weights.perm),
            topk_weights=self._on_device(self._topk_weights),
            expert_parallel=int(case.flag_parallel),
        )
        args.block_size = case.block_size or self._library.block_size(args)
        if self._device != "cpu":
            args.stream = torch.cuda.current_stream().cuda_stream
        return args

    def add_empty_blocks(self, count: int) -> None:
        """Puts `count` blocks of padding in front of every block of sorted_token_ids."""
        self._align(count)

    def renumber(
        self,
        padding: Sequence[int],
        no_expert: Sequence[int],
        empty_blocks: int = 0,
        shuffled: bool = False,
    ) -> None:
        """Writes these numbers, in turn, for padding and for blocks without an expert.

        `empty_blocks`: as add_empty_blocks() puts them there. `shuffled`: a block's ids and padding
        stand in any order.
        """
        self._align(empty_blocks, padding, no_expert, shuffled)

    def _align(
        self,
        empty_blocks: int = 0,
        padding: Sequence[int] = (),
        no_expert: Sequence[int] = (),
        shuffled: bool = False,
    ) -> None:
        alignment = moe_reference.moe_align(
            self._routing, self.case.num_experts, self.args.block_size, self._map
        )
        used = int(alignment.num_tokens_past_padded[0])
        _renumber(alignment.sorted_token_ids[:used], self.case.m * self.case.top_k, padding)
        _renumber(alignment.expert_ids[: used // self.args.block_size], -1, no_expert)
        if shuffled:
            blocks = alignment.sorted_token_ids[:used].reshape(-1, self.args.block_size)
            blocks[:] = np.random.default_rng(self.case.seed).permuted(blocks, axis=1)
        self._soil_unused(alignment)
        if empty_blocks:
            alignment = self._with_empty_blocks(alignment, empty_blocks)
        for name in ("sorted_token_ids", "expert_ids", "num_tokens_past_padded"):
            values = torch.from_numpy(getattr(alignment, name))
            setattr(self.args, name, self._on_device(values))

    def _with_empty_blocks(
        self, alignment: moe_reference.Alignment, count: int
    ) -> moe_reference.Alignment:
        size = self.args.block_size
        used = int(alignment.num_tokens_past_padded[0])
        blocks = alignment.sorted_token_ids[:used].reshape(-1, size)
        experts = alignment.expert_ids[: len(blocks)]
        ids = np.full((len(blocks), count + 1, size), self.case.m * self.case.top_k, np.int32)
        ids[:, count] = blocks
        return moe_reference.Alignment(
            ids.reshape(-1),
            np.repeat(experts, count + 1),
            np.array([ids.size], np.int32),
        )

    def _soil_unused(self, alignment: moe_reference.Alignment) -> None:
        """Makes unused entries look like work, so that a kernel that does it gives wrong rows."""
        used = int(alignment.num_tokens_past_padded[0])
        unused = len(alignment.sorted_token_ids) - used
        ids = max(1, self.case.m * self.case.top_k)
        alignment.sorted_token_ids[used:] = np.arange(unused) % ids
        alignment.expert_ids[used // self.args.block_size :] = 0

    def new_workspace(self, config: Any = None, args: Any = None) -> None:
        """Takes a zeroed workspace of just the size that the library asks for.

        It is for a launch with `config`, or what the case forces, or the library's choice, and with
        `args` if that is not the problem's own struct. A refusal here is for the launch to repeat,
        where it is checked.
        """
        if config is None and args is None:
            config = self.forced_config()
        status, size = self._library.workspace_size(self.args if args is None else args, config)
        self.use_workspace(Guarded(size if status.ok else 16, self._device, self.home))
        self.workspace.fill(0, torch.uint8)

    def use_workspace(self, workspace: Guarded) -> None:
        """Makes the arguments point to a workspace, which may be another problem's."""
        self.workspace = workspace
        self.args.workspace = workspace.address
        self.args.workspace_bytes = workspace.bytes.numel()

    def operands(self) -> dict[str, torch.Tensor]:
        """Returns the tensors that the arguments point to, C and the workspace too, by argument.

        Those that are empty or null are left out.
        """
        weights = self.weights
        tensors = [*self._kept, self.c.bytes, self.workspace.bytes, weights.b, weights.scales]
        tensors += [weights.zero_points, weights.global_scales, weights.bias]
        tensors += [weights.g_idx, weights.perm]
        found = {each.data_ptr(): each for each in tensors if each is not None and each.numel()}
        addresses = {name: getattr(self.args, name) for name, _ in self.args._fields_}
        return {name: found[address] for name, address in addresses.items() if address in found}

    def poison(self) -> None:
        """Fills C with a NaN that tells rows never written."""
        self.c.fill(_POISON, torch.int16)

    def output_bits(self) -> torch.Tensor:
        """Returns a copy of C, [m * top_k, n], as int16."""
        rows = self.case.m * self.case.top_k
        bits = self.c.home_bytes().view(torch.int16)[: rows * self.case.weights.n]
        return bits.reshape(rows, self.case.weights.n).clone()

    def values(self, bits: torch.Tensor) -> torch.Tensor:
        """Returns the float64 values of output bits."""
        return bits.view(self._dtype).double()

    def c_untouched(self) -> bool:
        """Whether all of C's memory still holds the poison."""
        return bool((self.c.home_bytes().view(torch.int16) == _POISON).all())

    def untouched(self, bits: torch.Tensor) -> torch.Tensor:
        """Returns, for each row, whether all of its elements still hold the poison."""
        return (bits == _POISON).all(dim=1)

    def reference(self, ids: np.ndarray | None = None) -> torch.Tensor:
        """Returns the exact output of some ids (None: all), float64 [ids, n].

        Rows of other devices' experts are zero.
        """
        case, rows = self.case, self._rows(ids)
        shape = (len(rows), case.weights.n)
        return moe_reference.reference(
            self._exact_a(rows // case.top_k),
            self.weights.dequantised,
            self.local_expert_of_id[rows.cpu().numpy()],
            1,
            torch.zeros(shape, dtype=torch.float64, device=self.home),
            self.weights.exact_bias() if case.bias else None,
            self._topk_weights[rows].double() if self._topk_weights is not None else None,
        )

    def sizes(self, ids: np.ndarray | None = None) -> torch.Tensor:
        """Returns what magnitude to expect of each element of reference(), float64 [ids, n].

        It is the root mean square that the sum of products would have if their signs were random.
        Rows of other devices' experts have the size 1.
        """
        case, rows = self.case, self._rows(ids)
        row_sizes = self._exact_a(rows // case.top_k).square().sum(dim=1).sqrt()
        local = self.local_expert_of_id[rows.cpu().numpy()]
        out = torch.ones((len(rows), case.weights.n), dtype=torch.float64, device=self.home)
        bias = self.weights.exact_bias()
        for expert in np.unique(local[local >= 0]):
            mine = torch.from_numpy(np.flatnonzero(local == expert)).to(self.home)
            size = row_sizes[mine][:, None] * self.weights.column_sizes(int(expert))
            out[mine] = torch.hypot(size, bias[expert]) if case.bias else size
        if self._topk_weights is not None:
            out *= self._topk_weights[rows].double()[:, None]
        return out

    def magnitudes(self, ids: np.ndarray | None = None) -> torch.Tensor:
        """Returns the magnitude of each row's expert, float64 [ids, 1]; 1 for experts elsewhere."""
        local = torch.from_numpy(self.local_expert_of_id).to(self.home)[self._rows(ids)]
        found = self.weights.magnitudes[local.clamp(min=0)]
        return torch.where(local >= 0, found, 1.0)[:, None]

    def _rows(self, ids: np.ndarray | None) -> torch.Tensor:
        if ids is None:
            ids = np.arange(self.case.m * self.case.top_k)
        return torch.from_numpy(ids).to(self.home)

    def without(self, names: set[str]) -> Problem:
        """Returns the problem on the same memory whose reference has no `bias`, `topk_weights`."""
        other = copy.copy(self)
        if "bias" in names:
            other.case = replace(self.case, bias=False)
        if "topk_weights" in names:
            other._topk_weights = None
        return other

    @property
    def a_scales(self) -> torch.Tensor | None:
        """The scales of 8-bit activations."""
        return self._a_scales

    def with_a_scales(self, scales: torch.Tensor) -> Problem:
        """Returns the problem on the same memory with other scales of its activations."""
        other = copy.copy(self)
        other.args = self._library.Args.from_buffer_copy(self.args)
        other.args.a_scales = self._on_device(scales)
        return other

    def with_smaller_a(self, power: int) -> Problem:
        """Returns the problem on the same memory with activations that are 2^power of these."""
        if self._a_scales is not None:
            other = self.with_a_scales(self._a_scales * 2.0**power)
            other._a_scales = self._a_scales * 2.0**power
            return other
        other = self._with_a(self._a * 2.0**power)
        other._a = self._a * 2.0**power
        return other

    def with_other_padding(self) -> Problem:
        """Returns the problem on the same memory with other numbers in A's columns of padding."""
        key = self.case.weights
        changed = self._a.clone()
        changed[:, key.k - key.pad_k : key.k] = 7
        return self._with_a(changed)

    def _with_a(self, a: torch.Tensor) -> Problem:
        other = copy.copy(self)
        other.args = self._library.Args.from_buffer_copy(self.args)
        other.args.a = self._on_device(a)
        return other

    def with_spoilt_rows(self, rows: list[int], value: float) -> Problem:
        """Returns the problem on the same memory with an infinity or NaN in rows of A.

        Of 8-bit activations it is in the scales.
        """
        if self._a_scales is not None:
            scales = self._a_scales.clone()
            scales[rows] = value
            return self.with_a_scales(scales)
        spoilt = self._a.clone()
        spoilt[rows, 5] = value
        return self._with_a(spoilt)

    def with_spoilt_bias(self, expert: int, value: float) -> Problem:
        """Returns the problem on the same memory with an infinity or NaN as an expert's bias."""
        bias = self.weights.bias.clone()
        bias[expert] = value
        other = copy.copy(self)
        other.args = self._library.Args.from_buffer_copy(self.args)
        other.args.bias = self._on_device(bias)
        return other

    def with_nan_scale(self, expert: int, group: int, column: int) -> Problem:
        """Returns the problem on the same memory with one scale of the weights that is NaN."""
        other = copy.copy(self)
        other.weights = self.weights.with_nan_scale(expert, group, column)
        other.args = self._library.Args.from_buffer_copy(self.args)
        other.args.scales = other.weights.scales.data_ptr()
        return other

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
            gather_first=case.gather_first,
        )

    def kernel(self, config: Any) -> Kernel:
        """Returns the kernel that a configuration selects for this problem."""
        key = self.case.weights
        size = GROUP_CHANNEL if key.per_channel else key.group_size
        return Kernel(
            **{name: getattr(key, name) for name in TYPE_FIELDS},
            block_size=self.args.block_size,
            thread_k=config.thread_k,
            thread_n=config.thread_n,
            threads=config.threads,
            blocks_per_sm=config.blocks_per_sm if config.threads == SM90_THREADS else 0,
            group_blocks=size if size <= 0 else size // 16,
        )


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
