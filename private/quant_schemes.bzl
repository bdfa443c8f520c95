"""The table of quantisation schemes, and the values a scheme's fields may take.

Literals only: Starlark loads this file, and tools/marlin_gen parses it with Python's `ast`, so that
both sides read one table.
"""

visibility("//...")

# Named lists of kernel tiles: (thread_k, thread_n, threads, thread_m_blocks). thread_k and thread_n
# are the extent of a block's tile in K and N, thread_m_blocks its extents in M, in units of 16 rows
# (0.5: 8 rows, the transposed product). The 256-thread tiles divide the m blocks between them: the
# deep one serves few rows, the wide one many.
TILE_SETS = {
    "a16": [
        (128, 128, 256, [0.5, 1]),
        (64, 256, 256, [2, 3, 4]),
        (64, 128, 128, [0.5, 1, 2, 3, 4]),
    ],
    "a8": [
        (128, 128, 256, [1]),
        (64, 256, 256, [2, 3, 4]),
        (64, 128, 128, [1, 2, 3, 4]),
    ],
    "narrow": [
        (128, 64, 128, [0.5, 1]),
    ],
}

# Tiles of the family sm90, by the types and group sizes of the kernels: (block_rows, thread_n,
# blocks_per_sm). block_rows and thread_n are the extent of a block's tile in M and N,
# blocks_per_sm is how many thread blocks share a multiprocessor. Schemes whose types and groups are
# not in the table have no kernel of the family. At most 250 kernels in all.
#   s_type empty: the c_type.
SM90_TILES = [
    {
        "a_types": ["kFloat16", "kBFloat16"],
        "b_types": ["kU4B8"],
        "s_type": "",
        "group_blocks": [8],
        "tiles": [
            (8, 512, 1),
            (24, 256, 2),
            (24, 512, 1),
            (32, 512, 1),
            (48, 512, 1),
            (80, 512, 1),
            (144, 256, 1),
            (160, 256, 1),
            (176, 256, 1),
        ],
    },
    {
        "a_types": ["kFloat16", "kBFloat16"],
        "b_types": ["kU4"],
        "s_type": "",
        "group_blocks": [8],
        "tiles": [
            (32, 512, 1),
            (64, 512, 1),
            (144, 256, 1),
        ],
    },
    {
        "a_types": ["kFloat16", "kBFloat16"],
        "b_types": ["kU4", "kU4B8"],
        "s_type": "",
        "group_blocks": [-1, 2, 4],
        "tiles": [
            (32, 512, 1),
            (144, 256, 1),
        ],
    },
    {
        "a_types": ["kBFloat16"],
        "b_types": ["kU8B128"],
        "s_type": "",
        "group_blocks": [8],
        "tiles": [
            (32, 512, 1),
            (96, 256, 1),
            (144, 256, 1),
            (160, 256, 1),
        ],
    },
    {
        "a_types": ["kBFloat16"],
        "b_types": ["kU8B128"],
        "s_type": "",
        "group_blocks": [-1, 2, 4],
        "tiles": [
            (32, 512, 1),
            (144, 256, 1),
        ],
    },
    {
        "a_types": ["kBFloat16"],
        "b_types": ["kFE4M3fn"],
        "s_type": "",
        "group_blocks": [-1, 8],
        "tiles": [
            (32, 512, 1),
            (96, 256, 1),
            (144, 256, 1),
            (160, 256, 1),
        ],
    },
    {
        "a_types": ["kBFloat16"],
        "b_types": ["kFE4M3fn"],
        "s_type": "kFE8M0fnu",
        "group_blocks": [2],
        "tiles": [
            (32, 512, 1),
            (144, 256, 1),
        ],
    },
    {
        "a_types": ["kBFloat16"],
        "b_types": ["kFE2M1f"],
        "s_type": "kFE4M3fn",
        "group_blocks": [1],
        "tiles": [
            (32, 512, 1),
            (64, 512, 1),
            (144, 256, 1),
        ],
    },
    {
        "a_types": ["kBFloat16"],
        "b_types": ["kFE2M1f"],
        "s_type": "kFE8M0fnu",
        "group_blocks": [2],
        "tiles": [
            (32, 512, 1),
            (64, 512, 1),
            (80, 256, 1),
            (144, 256, 1),
        ],
    },
    # No other family serves FP8 activations on 9.0: rows are all that moe_gemm_block_size() may say.
    {
        "a_types": ["kFE4M3fn"],
        "b_types": ["kU4B8"],
        "s_type": "",
        "group_blocks": [8],
        "tiles": [
            (16, 512, 1),
            (24, 512, 1),
            (32, 512, 1),
            (48, 512, 1),
            (64, 256, 1),
            (80, 256, 1),
            (96, 256, 1),
            (128, 256, 1),
        ],
    },
    {
        "a_types": ["kFE4M3fn"],
        "b_types": ["kU4"],
        "s_type": "",
        "group_blocks": [8],
        "tiles": [
            (16, 512, 1),
            (32, 512, 1),
            (48, 512, 1),
            (64, 512, 1),
            (96, 256, 1),
            (128, 256, 1),
        ],
    },
    {
        "a_types": ["kFE4M3fn"],
        "b_types": ["kU4", "kU4B8"],
        "s_type": "",
        "group_blocks": [-1, 2, 4],
        "tiles": [
            (16, 512, 1),
            (32, 512, 1),
            (48, 512, 1),
            (64, 512, 1),
            (128, 256, 1),
        ],
    },
    {
        "a_types": ["kFE4M3fn"],
        "b_types": ["kFE2M1f"],
        "s_type": "kFE8M0fnu",
        "group_blocks": [2],
        "tiles": [
            (16, 512, 1),
            (32, 512, 1),
            (48, 512, 1),
            (64, 256, 1),
            (96, 256, 1),
            (128, 256, 1),
        ],
    },
    {
        "a_types": ["kFE4M3fn"],
        "b_types": ["kFE4M3fn"],
        "s_type": "",
        "group_blocks": [-1, 8],
        "tiles": [
            (16, 512, 1),
            (32, 512, 1),
            (48, 512, 1),
            (64, 256, 1),
            (96, 256, 1),
            (128, 256, 1),
        ],
    },
    {
        "a_types": ["kFE4M3fn"],
        "b_types": ["kFE4M3fn"],
        "s_type": "kFE8M0fnu",
        "group_blocks": [2],
        "tiles": [
            (16, 512, 1),
            (32, 512, 1),
            (48, 512, 1),
            (64, 256, 1),
            (128, 256, 1),
        ],
    },
    {
        "a_types": ["kS8"],
        "b_types": ["kU4B8"],
        "s_type": "",
        "group_blocks": [8],
        "tiles": [
            (32, 512, 1),
            (64, 512, 1),
            (80, 256, 1),
            (96, 256, 1),
            (128, 256, 1),
        ],
    },
    {
        "a_types": ["kS8"],
        "b_types": ["kU4"],
        "s_type": "",
        "group_blocks": [8],
        "tiles": [
            (32, 512, 1),
            (64, 512, 1),
            (96, 256, 1),
            (128, 256, 1),
        ],
    },
    {
        "a_types": ["kS8"],
        "b_types": ["kU4", "kU4B8"],
        "s_type": "",
        "group_blocks": [-1, 2, 4],
        "tiles": [
            (32, 512, 1),
            (128, 256, 1),
        ],
    },
]

# Headers of this module's kernels that only the kernels of some types include, beside
# marlin_template.h: `name`.cuh. Each has a library of its own, so that a change of one compiles
# no other kernels again.
SCHEME_HEADERS = [
    {"name": "int4_weights", "a_types": ["kFloat16", "kBFloat16"], "b_types": ["kU4", "kU4B8"]},
    {"name": "int8_weights", "a_types": ["kFloat16", "kBFloat16"], "b_types": ["kU8B128"]},
    {"name": "fp8_weights", "a_types": ["kFloat16", "kBFloat16"], "b_types": ["kFE4M3fn"]},
    {"name": "fp4_weights", "a_types": ["kFloat16", "kBFloat16"], "b_types": ["kFE2M1f"]},
    {"name": "int8_activations", "a_types": ["kS8"], "b_types": ["kU4", "kU4B8"]},
    {"name": "fp8_activations", "a_types": ["kFE4M3fn"], "b_types": ["kU4", "kU4B8", "kFE4M3fn", "kFE2M1f"]},
]

# What a kernel costs to compile, by the bits of its activations and its thread_m_blocks: CPU time in
# percent of one with 16-bit activations and 32 rows, as tools/bench_build/kernel_compile.py measures
# it. A file that costs more than PART_COST is split between group sizes: the longest compile is
# below a twentieth of those for 8.0 and 8.9.
KERNEL_COSTS = {
    16: [(0.5, 70), (1, 90), (2, 100), (3, 120), (4, 130)],
    8: [(1, 65), (2, 70), (3, 80), (4, 90)],
}
SM90_KERNEL_COST = 250
PART_COST = 2600

# Fields of a scheme:
#   name          unique, a lower-case identifier
#   a_type        activation types
#   b_type        weight type
#   c_type        output types, each combined with each a_type; empty: the a_type itself. 16-bit
#                 activations may have the other 16-bit type as output, with scales of that type
#   s_type        scale type; empty: the c_type
#   tiles         a name in TILE_SETS, or such a list itself
#   group_blocks  16-row k blocks that share one scale; -1: one scale per column; 0: act-order
QUANT_SCHEMES = [
    {
        "name": "awq_int4",
        "a_type": ["kFloat16", "kBFloat16"],
        "b_type": "kU4",
        "c_type": [],
        "s_type": "",
        "tiles": "a16",
        "group_blocks": [-1, 2, 4, 8],
    },
    {
        "name": "gptq_int4",
        "a_type": ["kFloat16", "kBFloat16"],
        "b_type": "kU4B8",
        "c_type": [],
        "s_type": "",
        "tiles": "a16",
        "group_blocks": [-1, 0, 2, 4, 8],
    },
    {
        "name": "int8",
        "a_type": ["kFloat16", "kBFloat16"],
        "b_type": "kU8B128",
        "c_type": [],
        "s_type": "",
        "tiles": "a16",
        "group_blocks": [-1, 0, 2, 4, 8],
    },
    {
        "name": "fp8",
        "a_type": ["kFloat16", "kBFloat16"],
        "b_type": "kFE4M3fn",
        "c_type": [],
        "s_type": "",
        "tiles": "a16",
        "group_blocks": [-1, 8],
    },
    {
        "name": "nvfp4",
        "a_type": ["kFloat16", "kBFloat16"],
        "b_type": "kFE2M1f",
        "c_type": [],
        "s_type": "kFE4M3fn",
        "tiles": "a16",
        "group_blocks": [1],
    },
    {
        "name": "mxfp4",
        "a_type": ["kBFloat16"],
        "b_type": "kFE2M1f",
        "c_type": [],
        "s_type": "kFE8M0fnu",
        "tiles": "a16",
        "group_blocks": [2],
    },
    {
        "name": "awq_int4_a8",
        "a_type": ["kS8"],
        "b_type": "kU4",
        "c_type": ["kFloat16", "kBFloat16"],
        "s_type": "",
        "tiles": "a8",
        "group_blocks": [-1, 2, 4, 8],
    },
    {
        "name": "gptq_int4_a8",
        "a_type": ["kS8"],
        "b_type": "kU4B8",
        "c_type": ["kFloat16", "kBFloat16"],
        "s_type": "",
        "tiles": "a8",
        "group_blocks": [-1, 2, 4, 8],
    },
    {
        "name": "gptq_int4_afp8",
        "a_type": ["kFE4M3fn"],
        "b_type": "kU4B8",
        "c_type": ["kFloat16", "kBFloat16"],
        "s_type": "",
        "tiles": "a8",
        "group_blocks": [-1, 2, 4, 8],
    },
    {
        "name": "awq_int4_afp8",
        "a_type": ["kFE4M3fn"],
        "b_type": "kU4",
        "c_type": ["kFloat16", "kBFloat16"],
        "s_type": "",
        "tiles": "a8",
        "group_blocks": [-1, 2, 4, 8],
    },
    {
        "name": "mxfp4_afp8",
        "a_type": ["kFE4M3fn"],
        "b_type": "kFE2M1f",
        "c_type": ["kBFloat16"],
        "s_type": "kFE8M0fnu",
        "tiles": "a8",
        "group_blocks": [2],
    },
]

# Schemes with the same fields that are built only where somebody names them: the documented set of
# kernels is that of QUANT_SCHEMES.
FURTHER_QUANT_SCHEMES = [
    {
        "name": "gptq_int4_narrow",
        "a_type": ["kFloat16", "kBFloat16"],
        "b_type": "kU4B8",
        "c_type": [],
        "s_type": "",
        "tiles": "narrow",
        "group_blocks": [-1, 2, 4, 8],
    },
    {
        "name": "mxfp4_narrow",
        "a_type": ["kBFloat16"],
        "b_type": "kFE2M1f",
        "c_type": [],
        "s_type": "kFE8M0fnu",
        "tiles": "narrow",
        "group_blocks": [2],
    },
    {
        "name": "mxfp8",
        "a_type": ["kBFloat16"],
        "b_type": "kFE4M3fn",
        "c_type": [],
        "s_type": "kFE8M0fnu",
        "tiles": "a16",
        "group_blocks": [2],
    },
    {
        "name": "fp8_afp8",
        "a_type": ["kFE4M3fn"],
        "b_type": "kFE4M3fn",
        "c_type": ["kFloat16", "kBFloat16"],
        "s_type": "",
        "tiles": "a8",
        "group_blocks": [-1, 8],
    },
    {
        "name": "mxfp8_afp8",
        "a_type": ["kFE4M3fn"],
        "b_type": "kFE4M3fn",
        "c_type": ["kBFloat16"],
        "s_type": "kFE8M0fnu",
        "tiles": "a8",
        "group_blocks": [2],
    },
]

# Values that the fields of any scheme may take, the table's and custom ones alike. Types follow from
# SCALAR_TYPES by role, (thread_k, thread_n, threads) from TILE_SETS.
SCHEME_LIMITS = {
    "thread_m_blocks": [0.5, 1, 2, 3, 4],
    "thread_m_blocks_a8": [1, 2, 3, 4],
    "group_blocks": [-1, 0, 1, 2, 4, 8],
}

# Weight, activation and scale types that go together, with the group_blocks each may have. A
# combination that is not listed has no kernel.
#   s_type empty: the c_type.
SCHEME_COMBINATIONS = [
    {"b_type": "kU4", "a_types": ["kFloat16", "kBFloat16", "kS8", "kFE4M3fn"], "s_type": "", "group_blocks": [-1, 2, 4, 8]},
    {"b_type": "kU4B8", "a_types": ["kFloat16", "kBFloat16"], "s_type": "", "group_blocks": [-1, 0, 2, 4, 8]},
    {"b_type": "kU4B8", "a_types": ["kS8", "kFE4M3fn"], "s_type": "", "group_blocks": [-1, 2, 4, 8]},
    {"b_type": "kU8B128", "a_types": ["kFloat16", "kBFloat16"], "s_type": "", "group_blocks": [-1, 0, 2, 4, 8]},
    {"b_type": "kFE4M3fn", "a_types": ["kFloat16", "kBFloat16", "kFE4M3fn"], "s_type": "", "group_blocks": [-1, 8]},
    {"b_type": "kFE4M3fn", "a_types": ["kBFloat16", "kFE4M3fn"], "s_type": "kFE8M0fnu", "group_blocks": [2]},
    {"b_type": "kFE2M1f", "a_types": ["kFloat16", "kBFloat16"], "s_type": "kFE4M3fn", "group_blocks": [1]},
    {"b_type": "kFE2M1f", "a_types": ["kBFloat16", "kFE4M3fn"], "s_type": "kFE8M0fnu", "group_blocks": [2]},
]
