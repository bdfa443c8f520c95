"""The points that the MoE GEMM is timed at: layers of three models, quantisations, tokens."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

TOKENS = (1, 4, 16, 64, 256, 1024, 4096)
# Up to so many, the time is that of reading the weights.
FEW_TOKENS = 16


@dataclass(frozen=True)
class Layer:
    """One GEMM of a model's MoE layer. `down`: one row of A per id, weights multiplied."""

    name: str
    num_experts: int
    top_k: int
    k: int
    n: int
    down: bool


LAYERS = (
    Layer("mixtral_gate_up", 8, 2, 4096, 28672, False),
    Layer("mixtral_down", 8, 2, 14336, 4096, True),
    Layer("qwen3_gate_up", 128, 8, 2048, 1536, False),
    Layer("qwen3_down", 128, 8, 768, 2048, True),
    Layer("dsv3_gate_up", 256, 8, 7168, 4096, False),
    Layer("dsv3_down", 256, 8, 2048, 7168, True),
)

# Layers with few columns, as tensor parallelism leaves them: over 2, 4 and 8 GPUs of Qwen3-30B-A3B,
# over 8 of gpt-oss-20b (2880 rows and 720 columns, padded to multiples of 128) and of DeepSeek-V3.
NARROW_LAYERS = (
    Layer("qwen3_up_tp2", 128, 8, 2048, 768, False),
    Layer("qwen3_up_tp4", 128, 8, 2048, 384, False),
    Layer("qwen3_up_tp8", 128, 8, 2048, 192, False),
    Layer("gpt_oss_up_tp8", 32, 4, 2944, 768, False),
    Layer("dsv3_up_tp8", 256, 8, 7168, 512, False),
)


@dataclass(frozen=True)
class Quantisation:
    """One case: its name (the peer's where it has figures), types and group size.

    Names end with the type of the output where that is not the type of 16-bit activations.
    `layers`: how many of LAYERS it is timed on; `optional`: only where --case names it.
    """

    name: str
    a_type: str
    b_type: str
    c_type: str
    s_type: str
    group_size: int
    layers: int = 4
    optional: bool = False

    @property
    def a_bits(self) -> int:
        return 8 if self.a_type in ("kS8", "kFE4M3fn") else 16

    @property
    def b_bits(self) -> int:
        return 8 if self.b_type in ("kU8B128", "kFE4M3fn") else 4

    @property
    def scale_bytes(self) -> int:
        return 1 if self.s_type in ("kFE4M3fn", "kFE8M0fnu") else 2

    def scales_per_expert(self, layer: Layer) -> int:
        groups = 1 if self.group_size == -1 else layer.k // self.group_size
        return groups * layer.n

    def weight_bytes(self, layer: Layer) -> int:
        return layer.k * layer.n * self.b_bits // 8

    def expert_bytes(self, layer: Layer) -> float:
        """Bytes of one expert: weights, scales and zero points."""
        zero_point = 0.5 if self.b_type == "kU4" else 0
        scale = self.scale_bytes + zero_point
        return self.weight_bytes(layer) + self.scales_per_expert(layer) * scale


_BF16, _F16 = "kBFloat16", "kFloat16"
QUANTISATIONS = (
    Quantisation("bf16_u4b8_g128", _BF16, "kU4B8", _BF16, _BF16, 128, layers=6),
    Quantisation("fp16_u4awq_g128", _F16, "kU4", _F16, _F16, 128),
    Quantisation("bf16_mxfp4_g32", _BF16, "kFE2M1f", _BF16, "kFE8M0fnu", 32),
    Quantisation("bf16_fp8_ch", _BF16, "kFE4M3fn", _BF16, _BF16, -1),
    Quantisation("bf16_fp8_g128", _BF16, "kFE4M3fn", _BF16, _BF16, 128),
    Quantisation("bf16_nvfp4_g16", _BF16, "kFE2M1f", _BF16, "kFE4M3fn", 16),
    Quantisation("bf16_u8b128_g128", _BF16, "kU8B128", _BF16, _BF16, 128),
    Quantisation("s8_u4b8_g128", "kS8", "kU4B8", _BF16, _BF16, 128, optional=True),
    Quantisation("s8_u4b8_ch", "kS8", "kU4B8", _BF16, _BF16, -1, optional=True),
    Quantisation("e4m3_u4b8_g128", "kFE4M3fn", "kU4B8", _BF16, _BF16, 128, optional=True),
    Quantisation("e4m3_mxfp4_g32", "kFE4M3fn", "kFE2M1f", _BF16, "kFE8M0fnu", 32, optional=True),
    Quantisation("e4m3_fp8_ch", "kFE4M3fn", "kFE4M3fn", _BF16, _BF16, -1, optional=True),
    Quantisation("e4m3_fp8_g128", "kFE4M3fn", "kFE4M3fn", _BF16, _BF16, 128, optional=True),
    Quantisation("bf16_mxfp8_g32", _BF16, "kFE4M3fn", _BF16, "kFE8M0fnu", 32, optional=True),
    Quantisation("bf16_fp8_g128_fp16", _BF16, "kFE4M3fn", _F16, _F16, 128, optional=True),
    Quantisation("fp16_u4awq_g128_bf16", _F16, "kU4", _BF16, _BF16, 128, optional=True),
    Quantisation("e4m3_mxfp8_g32", "kFE4M3fn", "kFE4M3fn", _BF16, "kFE8M0fnu", 32, optional=True),
)


Point = tuple[Layer, Quantisation, int]


def selected(
    options: argparse.Namespace,
    cases: Sequence[Quantisation] = QUANTISATIONS,
    layers: Sequence[Layer] = LAYERS,
) -> list[Point]:
    """Returns the points asked for, case by case; of LAYERS, a case has only its first ones.

    Raises:
      SystemExit: there is none.
    """
    points = [
        (layer, case, tokens)
        for case in cases
        if options.case in case.name and (options.case or not case.optional)
        for layer in (layers[: case.layers] if layers is LAYERS else layers)
        if options.only in layer.name
        for tokens in options.tokens
    ]
    if not points:
        raise SystemExit(
            f"no point has {options.case!r} in its --case, {options.only!r} in its layer (--only) "
            f"and {options.tokens} as its --tokens; the cases are "
            f"{', '.join(case.name for case in cases)}, the layers "
            f"{', '.join(layer.name for layer in layers)}"
        )
    return points
