"""Quantisation schemes, with the message of both checks, in Starlark and in Python.

A literal only: Starlark loads this file, Python parses it with `ast`.
"""

# valid: a scheme as the generator's spec spells it. cases: fields that replace those of `valid`, and
# the message about the result without the scheme's name, empty if nothing is refused. The checks take
# the fields in the order name, a_type, b_type, c_type, s_type, tiles, group_blocks, then for each
# a_type: its c_types, its thread_m_blocks, its b_type, then for each of its c_types the s_type and the
# group_blocks. The first error counts. Type names are listed in alphabetical order, other values in
# the order of the table.
SCHEME_ERRORS = {
    "valid": {
        "name": "my_int4",
        "a_type": ["kFloat16"],
        "b_type": "kU4",
        "c_type": ["kFloat16"],
        "s_type": "",
        "tiles": [[128, 128, 256, [0.5, 1]]],
        "group_blocks": [4],
    },
    "cases": [
        ({}, ""),
        ({"c_type": []}, ""),
        ({"s_type": "kFloat16"}, ""),
        ({"c_type": ["kBFloat16"]}, ""),
        ({"a_type": ["kFloat16", "kBFloat16"], "c_type": ["kFloat16", "kBFloat16"]}, ""),
        ({"a_type": ["kFloat16", "kBFloat16"], "c_type": [], "tiles": "a16", "group_blocks": [-1, 2, 4, 8]}, ""),
        ({"a_type": ["kS8"], "c_type": ["kFloat16", "kBFloat16"], "tiles": "a8"}, ""),
        ({"a_type": ["kFE4M3fn"], "b_type": "kFE2M1f", "s_type": "kFE8M0fnu", "tiles": [[128, 64, 128, [1]]], "group_blocks": [2]}, ""),
        (
            {"name": "My-Int4"},
            "name = \"My-Int4\" is not allowed; allowed: a lower-case letter, then lower-case letters, digits and underscores",
        ),
        (
            {"name": ""},
            "name = \"\" is not allowed; allowed: a lower-case letter, then lower-case letters, digits and underscores",
        ),
        (
            {"name": "4bit"},
            "name = \"4bit\" is not allowed; allowed: a lower-case letter, then lower-case letters, digits and underscores",
        ),
        (
            {"name": "gptq_int4"},
            "name = \"gptq_int4\" is not allowed; allowed: a name that no other scheme has",
        ),
        (
            {"a_type": []},
            "a_type = [] is not allowed; allowed: one or more of kBFloat16, kFE4M3fn, kFloat16, kS8",
        ),
        (
            {"a_type": ["kU4"]},
            "a_type = \"kU4\" is not allowed; allowed: kBFloat16, kFE4M3fn, kFloat16, kS8",
        ),
        (
            {"a_type": ["kFloat16", "half"]},
            "a_type = \"half\" is not allowed; allowed: kBFloat16, kFE4M3fn, kFloat16, kS8",
        ),
        (
            {"b_type": "kU5"},
            "b_type = \"kU5\" is not allowed; allowed: kFE2M1f, kFE4M3fn, kU4, kU4B8, kU8B128",
        ),
        (
            {"b_type": ""},
            "b_type = \"\" is not allowed; allowed: kFE2M1f, kFE4M3fn, kU4, kU4B8, kU8B128",
        ),
        (
            {"c_type": ["kS8"]},
            "c_type = \"kS8\" is not allowed; allowed: kBFloat16, kFloat16",
        ),
        (
            {"s_type": "kS8"},
            "s_type = \"kS8\" is not allowed; allowed: \"\", kBFloat16, kFE4M3fn, kFE8M0fnu, kFloat16",
        ),
        (
            {"tiles": "a32"},
            "tiles = \"a32\" is not allowed; allowed: a16, a8, narrow",
        ),
        (
            {"tiles": []},
            "thread_configs = [] is not allowed; allowed: one or more of (128, 128, 256), (64, 256, 256), (64, 128, 128), (128, 64, 128)",
        ),
        (
            {"tiles": [[128, 256, 256, [1]]]},
            "thread_configs = (128, 256, 256) is not allowed; allowed: (128, 128, 256), (64, 256, 256), (64, 128, 128), (128, 64, 128)",
        ),
        (
            {"tiles": [[128, 128, 256, []]]},
            "thread_m_blocks = [] is not allowed; allowed: one or more of 0.5, 1, 2, 3, 4",
        ),
        (
            {"tiles": [[128, 128, 256, [1, 5]]]},
            "thread_m_blocks = 5 is not allowed; allowed: 0.5, 1, 2, 3, 4",
        ),
        (
            {"tiles": [[128, 128, 256, [1.5]]]},
            "thread_m_blocks = 1.5 is not allowed; allowed: 0.5, 1, 2, 3, 4",
        ),
        (
            {"group_blocks": []},
            "group_blocks = [] is not allowed; allowed: one or more of -1, 0, 1, 2, 4, 8",
        ),
        (
            {"group_blocks": [4, 3]},
            "group_blocks = 3 is not allowed; allowed: -1, 0, 1, 2, 4, 8",
        ),
        (
            {"a_type": ["kFloat16", "kBFloat16"], "b_type": "kU4B8", "c_type": ["kFloat16", "kBFloat16"], "group_blocks": [0, 4]},
            "group_blocks = 0 is not allowed with b_type = \"kU4B8\", a_type = \"kFloat16\", s_type = \"kBFloat16\"; allowed: -1, 2, 4, 8",
        ),
        (
            {"a_type": ["kBFloat16"], "b_type": "kFE2M1f", "s_type": "kFE8M0fnu", "group_blocks": [2]},
            "c_type = \"kFloat16\" is not allowed with b_type = \"kFE2M1f\", a_type = \"kBFloat16\"; allowed: kBFloat16",
        ),
        (
            {"a_type": ["kBFloat16"], "b_type": "kFE4M3fn", "s_type": "kFE8M0fnu", "group_blocks": [2]},
            "s_type = \"kFE8M0fnu\" is not allowed with b_type = \"kFE4M3fn\", a_type = \"kBFloat16\", c_type = \"kFloat16\"; allowed: \"\", kFloat16",
        ),
        (
            {"a_type": ["kS8"], "c_type": [], "tiles": "a8"},
            "c_type = [] is not allowed with a_type = \"kS8\"; allowed: one or more of kBFloat16, kFloat16",
        ),
        (
            {"a_type": ["kS8"]},
            "thread_m_blocks = 0.5 is not allowed with a_type = \"kS8\"; allowed: 1, 2, 3, 4",
        ),
        (
            {"a_type": ["kS8"], "tiles": "a16"},
            "thread_m_blocks = 0.5 is not allowed with a_type = \"kS8\"; allowed: 1, 2, 3, 4",
        ),
        (
            {"a_type": ["kS8"], "b_type": "kU8B128", "tiles": "a8"},
            "a_type = \"kS8\" is not allowed with b_type = \"kU8B128\"; allowed: kBFloat16, kFloat16",
        ),
        (
            {"a_type": ["kS8"], "b_type": "kFE2M1f", "s_type": "kFE8M0fnu", "tiles": "a8", "group_blocks": [2]},
            "a_type = \"kS8\" is not allowed with b_type = \"kFE2M1f\"; allowed: kBFloat16, kFE4M3fn, kFloat16",
        ),
        (
            {"s_type": "kFE8M0fnu"},
            "s_type = \"kFE8M0fnu\" is not allowed with b_type = \"kU4\", a_type = \"kFloat16\", c_type = \"kFloat16\"; allowed: \"\", kFloat16",
        ),
        (
            {"s_type": "kBFloat16"},
            "s_type = \"kBFloat16\" is not allowed with b_type = \"kU4\", a_type = \"kFloat16\", c_type = \"kFloat16\"; allowed: \"\", kFloat16",
        ),
        (
            {"b_type": "kFE2M1f", "group_blocks": [1]},
            "s_type = \"\" is not allowed with b_type = \"kFE2M1f\", a_type = \"kFloat16\", c_type = \"kFloat16\"; allowed: kFE4M3fn",
        ),
        (
            {"a_type": ["kBFloat16"], "b_type": "kFE2M1f", "c_type": [], "group_blocks": [1]},
            "s_type = \"\" is not allowed with b_type = \"kFE2M1f\", a_type = \"kBFloat16\", c_type = \"kBFloat16\"; allowed: kFE4M3fn, kFE8M0fnu",
        ),
        (
            {"group_blocks": [0]},
            "group_blocks = 0 is not allowed with b_type = \"kU4\", a_type = \"kFloat16\", s_type = \"kFloat16\"; allowed: -1, 2, 4, 8",
        ),
        (
            {"a_type": ["kS8"], "b_type": "kU4B8", "tiles": "a8", "group_blocks": [-1, 0]},
            "group_blocks = 0 is not allowed with b_type = \"kU4B8\", a_type = \"kS8\", s_type = \"kFloat16\"; allowed: -1, 2, 4, 8",
        ),
        (
            {"a_type": ["kBFloat16"], "b_type": "kFE2M1f", "c_type": [], "s_type": "kFE8M0fnu", "group_blocks": [1]},
            "group_blocks = 1 is not allowed with b_type = \"kFE2M1f\", a_type = \"kBFloat16\", s_type = \"kFE8M0fnu\"; allowed: 2",
        ),
    ],
}
