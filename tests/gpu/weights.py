"""Random quantised weights of the GPU tests: as the kernels read them, and to dequantise exactly.

What is drawn are codes and scales, over the whole range of their types, not rounded numbers: every
value then is exact in float64, and no code goes untested for being rare.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Iterator

import layouts
import number_formats
import torch
from cases import Case, WeightKey

DTYPES = {"kFloat16": torch.float16, "kBFloat16": torch.bfloat16}

# Root mean square of the values that random codes have.
_RMS = {"kU4": 6.5, "kU4B8": 4.6, "kU8B128": 74.0, "kFE4M3fn": 112.0, "kFE2M1f": 2.93}
# Outputs have about this magnitude, for activations of about one.
_OUTPUT_SIZE = 1.5
# What masks leave of e4m3 magnitudes: all of them, those below 2, the subnormals and a few more.
# Each column takes one, so that small codes count somewhere.
_E4M3_MASKS = (0x7F, 0x3F, 0x0F)
# Of e8m0 scales experts differ by these powers of two, and of bf16 scales beside f16 activations by
# more: scales and results are beyond float16's range.
_EXPERT_POWERS = (0, -40, 0, 20)
_BF16_EXPERT_POWERS = (0, -60, 0, 60)
# With int8 activations experts differ by up to 2^15: each of them has a unit of its scales.
_S8_EXPERT_POWERS = (0, -12, 3, -6)
# Of e8m0 scales columns do as well.
_COLUMN_POWERS = (0, 0, -6, -20)
_CACHE_BYTES = 4 << 30
# The codes of NaN.
_NAN_CODES = {"kFE4M3fn": 0x7F, "kFE8M0fnu": 0xFF}


def exponent_deficit(key: WeightKey) -> int:
    """Returns the power of two that packers multiply scales by, or NVFP4's global scales."""
    half = key.c_type == "kFloat16"
    if key.s_type == "kFE8M0fnu" or key.b_type == "kU8B128" or key.a_type == "kS8":
        return 0
    if key.s_type == "kFE4M3fn":
        return 14 - 7 if half else 126 - 7
    if key.a_type == "kFE4M3fn":
        return 0 if key.b_type == "kFE4M3fn" else 9
    if key.b_type != "kFE4M3fn" or key.a_type != key.c_type:
        return 0
    return 8 if half else 120


class Weights:
    """Random weights of some experts.

    Attributes:
      b, scales, zero_points, global_scales, bias, g_idx, perm: on the device, as the kernels read
        them; None where the scheme has none.
      num_groups: scale rows of an expert.
      magnitudes: float64 [experts], power of two that an expert's outputs and bias are scaled by.
    """

    def __init__(
        self,
        key: WeightKey,
        experts: int,
        device: str,
        home: str,
        seed: int,
        powers: tuple[int, ...] | None = None,
    ) -> None:
        """Makes the weights on the device `home`; outputs have a magnitude of about one.

        `powers` are those of two that experts differ by, in turn; None: as suits the scheme.
        """
        self.key = key
        self.experts = experts
        self.num_groups = key.k // key.group_length
        self.global_scales: torch.Tensor | None = None
        self._home = home
        self._generator = torch.Generator(device=home).manual_seed(seed)
        self._global: torch.Tensor | None = None
        self._dequantised: dict[int, torch.Tensor] = {}
        self._column_sizes: dict[int, torch.Tensor] = {}
        if powers is not None:
            pass
        elif key.s_type == "kFE8M0fnu":
            powers = _EXPERT_POWERS
        elif key.s_type == "kBFloat16" and key.a_type == "kFloat16":
            powers = _BF16_EXPERT_POWERS
        elif key.a_type == "kS8" and not key.per_channel and not key.extreme:
            powers = _S8_EXPERT_POWERS
        else:
            powers = (0,)
        self._powers = torch.tensor([powers[e % len(powers)] for e in range(experts)], device=home)
        self.magnitudes = torch.exp2(self._powers.double())
        self._codes = self._make_codes()
        self._zeros = self._integers(16, self.num_groups, key.n) if key.b_type == "kU4" else None
        if self._zeros is not None and key.extreme:
            self._zeros.zero_()
        self._scales, stored = self._make_scales()
        bias = torch.randn((experts, key.n), device=home, generator=self._generator)
        self._bias = (bias * self.magnitudes[:, None].float()).to(DTYPES[key.c_type])
        self._row_groups = self._make_row_groups()
        if key.pad_n or key.pad_k:
            self._clear_padding(stored)
        self._stored = stored
        self._pack(device)

    def _integers(self, end: int, *shape: int) -> torch.Tensor:
        return torch.randint(
            0,
            end,
            (self.experts, *shape),
            dtype=torch.uint8,
            device=self._home,
            generator=self._generator,
        )

    def _e4m3_codes(self, rows: int, signed: bool) -> torch.Tensor:
        """Random e4m3 codes [experts, rows, n] without NaN."""
        bits = self._integers(256, rows, self.key.n)
        masks = torch.tensor(_E4M3_MASKS, dtype=torch.uint8, device=self._home)
        mask = masks[self._integers(len(_E4M3_MASKS), 1, self.key.n).int()]
        codes = (bits & 0x7F).clamp_(max=0x7E) & mask
        return codes | (bits & 0x80) if signed else codes

    def _make_codes(self) -> torch.Tensor:
        key = self.key
        if key.extreme:
            code = number_formats.EXTREME_CODES[key.b_type]
            shape = (self.experts, key.k, key.n)
            return torch.full(shape, code, dtype=torch.uint8, device=self._home)
        if key.b_type == "kFE4M3fn":
            return self._e4m3_codes(key.k, signed=True)
        return self._integers(len(number_formats.VALUES[key.b_type]), key.k, key.n)

    def _spread(self, *shape: int) -> torch.Tensor:
        """Uniform between 0.5 and 1.5; 1 for extreme weights."""
        draws = torch.rand(shape, device=self._home, generator=self._generator)
        return torch.ones_like(draws) if self.key.extreme else 0.5 + draws

    def _make_scales(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the scales [experts, groups, n] as float64, and as stored but for their order."""
        key = self.key
        shape = (self.experts, self.num_groups, key.n)
        size = _OUTPUT_SIZE / (_RMS[key.b_type] * math.sqrt(key.k))
        if key.s_type == "kFE8M0fnu":
            codes = self._mxfp4_codes(size)
            return number_formats.decode(codes, key.s_type), codes
        if key.s_type == "kFE4M3fn":
            deficit = exponent_deficit(key)
            spread = self._spread(self.experts) * (size / _RMS["kFE4M3fn"])
            self.global_scales = (spread * 2.0**deficit).float()
            self._global = self.global_scales.double() * 2.0**-deficit
            codes = self._e4m3_codes(self.num_groups, signed=False)
            if key.extreme:
                codes.fill_(0x7E)
            return number_formats.decode(codes, key.s_type), codes
        if key.a_type == "kS8" and not key.per_channel:
            sizes = self._spread(*shape).double() * size * self.magnitudes[:, None, None]
            stored, units = layouts.fixed_point_scales(sizes)
            self.global_scales = units.float()
            self._global = self.global_scales.double()
            return stored.double(), stored.view(DTYPES[key.c_type])
        deficit = exponent_deficit(key)
        stored = self._spread(*shape) * self.magnitudes[:, None, None] * (size * 2.0**deficit)
        stored = stored.to(DTYPES[key.c_type])
        return stored.double() * 2.0**-deficit, stored

    def _mxfp4_codes(self, size: float) -> torch.Tensor:
        """e8m0 codes whose powers differ by group, by column and by expert."""
        base = 127 + round(math.log2(size))
        powers = self._powers[:, None, None] + base
        if self.key.extreme:
            return powers.expand(-1, self.num_groups, self.key.n).to(torch.uint8)
        columns = torch.tensor(_COLUMN_POWERS, device=self._home)
        of_column = columns[self._integers(len(_COLUMN_POWERS), 1, self.key.n).int()]
        of_group = self._integers(5, self.num_groups, self.key.n).int() - 3
        return (powers + of_column + of_group).to(torch.uint8)

    def _make_row_groups(self) -> torch.Tensor:
        """[experts, k] group of each row: shuffled for each expert under act-order."""
        rows = torch.arange(self.key.k, device=self._home) // self.key.group_length
        rows = rows.expand(self.experts, -1)
        if self.key.group_size != layouts.GROUP_ACT_ORDER:
            return rows
        keys = torch.rand(rows.shape, device=self._home, generator=self._generator)
        return rows.gather(1, keys.argsort(dim=1))

    def _clear_padding(self, stored: torch.Tensor) -> None:
        """Makes zeros of the last rows and columns, as preparation does of what a shard lacks."""
        rows, columns = self.key.k - self.key.pad_k, self.key.n - self.key.pad_n
        zero = number_formats.ZERO_CODES[self.key.b_type]
        self._codes[:, rows:] = zero
        if self._zeros is not None:
            self._codes[:, rows:] = self._zeros[:, self._row_groups[0, rows:]]
            self._zeros[:, :, columns:] = 0
        self._codes[:, :, columns:] = zero
        for scales in (self._scales, stored):
            scales[:, :, columns:] = 0
        self._bias[:, columns:] = 0

    def _pack(self, device: str) -> None:
        key, q = self.key, self._codes
        self.g_idx = self.perm = None
        if key.group_size == layouts.GROUP_ACT_ORDER:
            perm, g_idx = layouts.sort_rows_by_group(self._row_groups)
            q = layouts.take_rows(q, perm)
            self.perm, self.g_idx = perm.to(device), g_idx.to(device)
        if key.a_type == "kFE4M3fn" and key.b_type in ("kU4", "kU4B8"):
            zeros = 8 if self._zeros is None else self._zeros[:, self._row_groups[0]]
            q = layouts.encode_for_e4m3(q, zeros)
        bits = 8 if len(number_formats.VALUES[key.b_type]) == 256 else 4
        b = layouts.pack_weights(q, bits) if key.a_bits == 16 else layouts.pack_weights_a8(q, bits)
        self.b = b.to(device)
        self.scales = self._packed_scales(self._stored).to(device)
        self.zero_points = None
        if self._zeros is not None:
            self.zero_points = layouts.pack_zero_points(self._zeros, key.a_bits).to(device)
        if self.global_scales is not None:
            self.global_scales = self.global_scales.to(device)
        self.bias = layouts.permute_channel(self._bias).to(device)

    def _packed_scales(self, stored: torch.Tensor) -> torch.Tensor:
        key = self.key
        if key.s_type == "kFE4M3fn":
            return layouts.store_nvfp4_scales(stored)
        if key.s_type == "kFE8M0fnu":
            return layouts.store_exponent_scales(stored, key.a_bits, key.b_type)
        return layouts.permute_scales(stored, key.group_size, key.a_bits)

    def with_nan_scale(self, expert: int, group: int, column: int) -> Weights:
        """Returns the same weights, of which one scale is NaN for the kernels."""
        other = copy.copy(self)
        stored = self._stored.clone()
        stored[expert, group, column] = _NAN_CODES.get(self.key.s_type, torch.nan)
        other.scales = self._packed_scales(stored).to(self.scales.device)
        return other

    def dequantised(self, expert: int) -> torch.Tensor:
        """Returns the float64 weights [k, n] of an expert."""
        known = self._dequantised.get(expert)
        if known is not None:
            return known
        zeros = None if self._zeros is None else self._zeros[expert]
        values = layouts.dequantise(
            self._codes[expert],
            self._scales[expert],
            zeros,
            self._row_groups[expert],
            self.key.b_type,
        )
        if self._global is not None:
            values = values * self._global[expert]
        if (len(self._dequantised) + 1) * values.numel() * 8 <= _CACHE_BYTES:
            self._dequantised[expert] = values
        return values

    def column_sizes(self, expert: int) -> torch.Tensor:
        """Returns the root mean square of each column of dequantised(), [n].

        Kernels that scale f16 weights have them as f16 numbers, whose precision ends at 2^-14: a
        smaller column counts as of that size.
        """
        if expert not in self._column_sizes:
            sizes = self.dequantised(expert).square().mean(dim=0).sqrt()
            if self.key.a_type == self.key.c_type == "kFloat16" and not self.key.per_channel:
                sizes = sizes.clamp(min=2.0**-14)
            self._column_sizes[expert] = sizes
        return self._column_sizes[expert]

    def exact_bias(self) -> torch.Tensor:
        return self._bias.double()


def weights_for(cases: list[Case], device: str, home: str) -> Iterator[tuple[Case, Weights]]:
    """Yields each case with its weights; neighbours with the same key share one set."""
    largest: dict[WeightKey, int] = {}
    for case in cases:
        largest[case.weights] = max(largest.get(case.weights, 0), case.local_experts)
    weights = None
    for case in cases:
        if weights is None or weights.key != case.weights:
            weights = None  # frees the previous set before the next is made
            seed = zlib.crc32(repr(case.weights).encode())
            weights = Weights(case.weights, largest[case.weights], device, home, seed)
        yield case, weights
