"""Kernel files, and the header of certain types that each includes, for some schemes in a family.

Starlark declares these files and Python writes them. `schemes` names schemes of the table, None all
of them; `custom` has others, as a spec has them.
"""

KERNEL_FILES = [
    {
        "about": "every scheme of the table",
        "family": "sm75",
        "schemes": None,
        "custom": [],
        "files": {
            "sm75_kernel_float16_fe2m1f_float16.cu": "fp4_weights",
            "sm75_kernel_float16_fe4m3fn_float16.cu": "fp8_weights",
            "sm75_kernel_float16_u4_float16.cu": "int4_weights",
            "sm75_kernel_float16_u4_float16_2.cu": "int4_weights",
            "sm75_kernel_float16_u4b8_float16.cu": "int4_weights",
            "sm75_kernel_float16_u4b8_float16_2.cu": "int4_weights",
            "sm75_kernel_float16_u4b8_float16_3.cu": "int4_weights",
            "sm75_kernel_float16_u8b128_float16.cu": "int8_weights",
            "sm75_kernel_float16_u8b128_float16_2.cu": "int8_weights",
            "sm75_kernel_float16_u8b128_float16_3.cu": "int8_weights",
            "sm75_kernel_s8_u4_float16.cu": "int8_activations",
            "sm75_kernel_s8_u4b8_float16.cu": "int8_activations",
        },
    },
    {
        "about": "every scheme of the table",
        "family": "sm80",
        "schemes": None,
        "custom": [],
        "files": {
            "sm80_kernel_bfloat16_fe2m1f_bfloat16.cu": "fp4_weights",
            "sm80_kernel_bfloat16_fe4m3fn_bfloat16.cu": "fp8_weights",
            "sm80_kernel_bfloat16_u4_bfloat16.cu": "int4_weights",
            "sm80_kernel_bfloat16_u4_bfloat16_2.cu": "int4_weights",
            "sm80_kernel_bfloat16_u4b8_bfloat16.cu": "int4_weights",
            "sm80_kernel_bfloat16_u4b8_bfloat16_2.cu": "int4_weights",
            "sm80_kernel_bfloat16_u4b8_bfloat16_3.cu": "int4_weights",
            "sm80_kernel_bfloat16_u8b128_bfloat16.cu": "int8_weights",
            "sm80_kernel_bfloat16_u8b128_bfloat16_2.cu": "int8_weights",
            "sm80_kernel_bfloat16_u8b128_bfloat16_3.cu": "int8_weights",
            "sm80_kernel_float16_fe2m1f_float16.cu": "fp4_weights",
            "sm80_kernel_float16_fe4m3fn_float16.cu": "fp8_weights",
            "sm80_kernel_float16_u4_float16.cu": "int4_weights",
            "sm80_kernel_float16_u4_float16_2.cu": "int4_weights",
            "sm80_kernel_float16_u4b8_float16.cu": "int4_weights",
            "sm80_kernel_float16_u4b8_float16_2.cu": "int4_weights",
            "sm80_kernel_float16_u4b8_float16_3.cu": "int4_weights",
            "sm80_kernel_float16_u8b128_float16.cu": "int8_weights",
            "sm80_kernel_float16_u8b128_float16_2.cu": "int8_weights",
            "sm80_kernel_float16_u8b128_float16_3.cu": "int8_weights",
            "sm80_kernel_s8_u4_bfloat16.cu": "int8_activations",
            "sm80_kernel_s8_u4_float16.cu": "int8_activations",
            "sm80_kernel_s8_u4b8_bfloat16.cu": "int8_activations",
            "sm80_kernel_s8_u4b8_float16.cu": "int8_activations",
        },
    },
    {
        "about": "every scheme of the table",
        "family": "sm89",
        "schemes": None,
        "custom": [],
        "files": {
            "sm89_kernel_fe4m3fn_fe2m1f_bfloat16.cu": "fp8_activations",
            "sm89_kernel_fe4m3fn_u4_bfloat16.cu": "fp8_activations",
            "sm89_kernel_fe4m3fn_u4_float16.cu": "fp8_activations",
            "sm89_kernel_fe4m3fn_u4b8_bfloat16.cu": "fp8_activations",
            "sm89_kernel_fe4m3fn_u4b8_float16.cu": "fp8_activations",
        },
    },
    {
        "about": "every scheme of the table, of which few have kernels here",
        "family": "sm90",
        "schemes": None,
        "custom": [],
        "files": {
            "sm90_kernel_bfloat16_u4_bfloat16.cu": "int4_weights",
            "sm90_kernel_bfloat16_u4b8_bfloat16.cu": "int4_weights",
            "sm90_kernel_float16_u4_float16.cu": "int4_weights",
            "sm90_kernel_float16_u4b8_float16.cu": "int4_weights",
        },
    },
    {
        "about": "kernels that two schemes share count once",
        "family": "sm80",
        "schemes": [
            "awq_int4",
        ],
        "custom": [
            {
                "name": "my_int4",
                "a_type": ["kFloat16"],
                "b_type": "kU4",
                "c_type": [],
                "s_type": "",
                "tiles": [
                    [128, 128, 256, [0.5, 1]],
                    [64, 128, 128, [0.5, 1, 2, 3, 4]],
                    [128, 64, 128, [0.5, 1, 2, 3, 4]],
                ],
                "group_blocks": [2, 4, 8],
            },
        ],
        "files": {
            "sm80_kernel_bfloat16_u4_bfloat16.cu": "int4_weights",
            "sm80_kernel_bfloat16_u4_bfloat16_2.cu": "int4_weights",
            "sm80_kernel_float16_u4_float16.cu": "int4_weights",
            "sm80_kernel_float16_u4_float16_2.cu": "int4_weights",
            "sm80_kernel_float16_u4_float16_3.cu": "int4_weights",
        },
    },
    {
        "about": "two types of scales in one file",
        "family": "sm80",
        "schemes": [
            "mxfp4",
        ],
        "custom": [
            {
                "name": "my_nvfp4",
                "a_type": ["kBFloat16"],
                "b_type": "kFE2M1f",
                "c_type": [],
                "s_type": "kFE4M3fn",
                "tiles": [
                    [64, 128, 128, [0.5, 1, 2, 3, 4]],
                    [128, 64, 128, [0.5, 1, 2, 3, 4]],
                ],
                "group_blocks": [1],
            },
        ],
        "files": {
            "sm80_kernel_bfloat16_fe2m1f_bfloat16.cu": "fp4_weights",
        },
    },
    {
        "about": "two kinds of scales fill a part",
        "family": "sm75",
        "schemes": [],
        "custom": [
            {
                "name": "my_int4_a8",
                "a_type": ["kS8", "kFE4M3fn"],
                "b_type": "kU4",
                "c_type": ["kFloat16", "kBFloat16"],
                "s_type": "",
                "tiles": [
                    [128, 128, 256, [1, 2, 3, 4]],
                    [64, 256, 256, [1, 2, 3, 4]],
                    [64, 128, 128, [1, 2, 3, 4]],
                    [128, 64, 128, [1, 2, 3, 4]],
                ],
                "group_blocks": [-1, 2, 4, 8],
            },
        ],
        "files": {
            "sm75_kernel_s8_u4_float16.cu": "int8_activations",
            "sm75_kernel_s8_u4_float16_2.cu": "int8_activations",
        },
    },
    {
        "about": "two kinds of scales fill a part",
        "family": "sm89",
        "schemes": [],
        "custom": [
            {
                "name": "my_int4_a8",
                "a_type": ["kS8", "kFE4M3fn"],
                "b_type": "kU4",
                "c_type": ["kFloat16", "kBFloat16"],
                "s_type": "",
                "tiles": [
                    [128, 128, 256, [1, 2, 3, 4]],
                    [64, 256, 256, [1, 2, 3, 4]],
                    [64, 128, 128, [1, 2, 3, 4]],
                    [128, 64, 128, [1, 2, 3, 4]],
                ],
                "group_blocks": [-1, 2, 4, 8],
            },
        ],
        "files": {
            "sm89_kernel_fe4m3fn_u4_bfloat16.cu": "fp8_activations",
            "sm89_kernel_fe4m3fn_u4_bfloat16_2.cu": "fp8_activations",
            "sm89_kernel_fe4m3fn_u4_float16.cu": "fp8_activations",
            "sm89_kernel_fe4m3fn_u4_float16_2.cu": "fp8_activations",
        },
    },
    {
        "about": "two kinds of scales cost together exactly what a part may",
        "family": "sm80",
        "schemes": [],
        "custom": [
            {
                "name": "my_exact_int4",
                "a_type": ["kFloat16"],
                "b_type": "kU4",
                "c_type": [],
                "s_type": "",
                "tiles": [
                    [128, 128, 256, [2, 3, 4]],
                    [64, 256, 256, [2, 3, 4]],
                    [64, 128, 128, [2, 3, 4]],
                    [128, 64, 128, [3, 4]],
                ],
                "group_blocks": [2, 4, 8],
            },
        ],
        "files": {
            "sm80_kernel_float16_u4_float16.cu": "int4_weights",
            "sm80_kernel_float16_u4_float16_2.cu": "int4_weights",
        },
    },
    {
        "about": "a custom scheme has the family's tiles, where its types and groups have any",
        "family": "sm90",
        "schemes": [],
        "custom": [
            {
                "name": "my_int4",
                "a_type": ["kFloat16"],
                "b_type": "kU4B8",
                "c_type": [],
                "s_type": "",
                "tiles": [[64, 128, 128, [1]]],
                "group_blocks": [4, 8],
            },
            {
                "name": "my_int4_of_small_groups",
                "a_type": ["kBFloat16"],
                "b_type": "kU4B8",
                "c_type": [],
                "s_type": "",
                "tiles": [[64, 128, 128, [1]]],
                "group_blocks": [2],
            },
        ],
        "files": {
            "sm90_kernel_float16_u4b8_float16.cu": "int4_weights",
        },
    },
]
