"""Quantisation schemes with one kernel per file, and the headers of a kernel that compiles fast."""

load("//:defs.bzl", "quant_scheme")

def _one_tile(**fields):
    return quant_scheme(
        b_type = "kU4",
        group_blocks = [4],
        thread_configs = [(128, 128, 256)],
        thread_m_blocks = [1],
        **fields
    )

# The types of all three families: both activations of the first and second, and the third's.
FAKE_SCHEMES = [
    _one_tile(
        name = "fake_int4",
        a_type = ["kFloat16"],
    ),
    _one_tile(
        name = "fake_int4_a8",
        a_type = ["kS8"],
        c_type = ["kFloat16"],
    ),
    _one_tile(
        name = "fake_int4_afp8",
        a_type = ["kFE4M3fn"],
        c_type = ["kFloat16"],
    ),
]
