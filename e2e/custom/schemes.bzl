"""A quantisation scheme of this module."""

load("@marlin_moe_kernels//:defs.bzl", "quant_scheme")

# One kernel: 4-bit weights, 64 rows per scale, one tile.
CUSTOM_INT4 = quant_scheme(
    name = "custom_int4",
    a_type = ["kFloat16"],
    b_type = "kU4B8",
    group_blocks = [4],
    thread_configs = [(64, 128, 128)],
    thread_m_blocks = [1],
)
