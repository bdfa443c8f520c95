"""Targets that the tests of the rule `marlin_moe_kernels` look at. None of them is ever built."""

load("@bazel_skylib//rules:write_file.bzl", "write_file")
load("@rules_cc//cc:defs.bzl", "cc_library")
load("@rules_cuda//cuda:defs.bzl", "cuda_archs")
load("//:defs.bzl", "marlin_moe_kernels", "quant_scheme")
load("//private:archs.bzl", "all_archs")
load("//private:kernels.bzl", "kernels_for_family_archs")

# Schemes with kernels in two or three of the families, and the files of these kernels, by family
# and by the header that the files include besides the template.
SCHEMES = ["mxfp4_afp8", "gptq_int4_a8", "gptq_int4"]
SM75_GROUPS = {
    "int4_weights": [
        "sm75_kernel_float16_u4b8_float16.cu",
        "sm75_kernel_float16_u4b8_float16_2.cu",
        "sm75_kernel_float16_u4b8_float16_3.cu",
    ],
    "int8_activations": [
        "sm75_kernel_s8_u4b8_float16.cu",
    ],
}
SM80_GROUPS = {
    "int4_weights": [
        "sm80_kernel_bfloat16_u4b8_bfloat16.cu",
        "sm80_kernel_bfloat16_u4b8_bfloat16_2.cu",
        "sm80_kernel_bfloat16_u4b8_bfloat16_3.cu",
        "sm80_kernel_float16_u4b8_float16.cu",
        "sm80_kernel_float16_u4b8_float16_2.cu",
        "sm80_kernel_float16_u4b8_float16_3.cu",
    ],
    "int8_activations": [
        "sm80_kernel_s8_u4b8_bfloat16.cu",
        "sm80_kernel_s8_u4b8_float16.cu",
    ],
}
SM89_GROUPS = {"fp8_activations": ["sm89_kernel_fe4m3fn_fe2m1f_bfloat16.cu"]}
SM90_GROUPS = {
    "int4_weights": [
        "sm90_kernel_bfloat16_u4b8_bfloat16.cu",
        "sm90_kernel_bfloat16_u4b8_bfloat16_2.cu",
        "sm90_kernel_float16_u4b8_float16.cu",
        "sm90_kernel_float16_u4b8_float16_2.cu",
    ],
    "int8_activations": [
        "sm90_kernel_s8_u4b8_bfloat16.cu",
        "sm90_kernel_s8_u4b8_bfloat16_2.cu",
        "sm90_kernel_s8_u4b8_float16.cu",
        "sm90_kernel_s8_u4b8_float16_2.cu",
    ],
    "fp8_activations": [
        "sm90_kernel_fe4m3fn_fe2m1f_bfloat16.cu",
    ],
}
SM75_FILES, SM80_FILES, SM89_FILES, SM90_FILES = [
    sorted([file for files in groups.values() for file in files])
    for groups in [SM75_GROUPS, SM80_GROUPS, SM89_GROUPS, SM90_GROUPS]
]
COMMON_FILES = ["kernel_selector.h", "manifest.json"]
SM90_COMMON_FILES = ["kernel_selector.h", "sm90_kernel_selector.h", "manifest.json"]

_WRONG_SCHEME = quant_scheme(
    name = "my_int4",
    a_type = ["kFloat16"],
    b_type = "kU4",
    group_blocks = [0],
    thread_configs = [(128, 128, 256)],
    thread_m_blocks = [1],
)

# Targets with wrong arguments, by name: the arguments, and the message of the failure.
WRONG_TARGETS = {
    "wrong_arch": (
        {"cuda_archs": ["sm_80", "sm_81"]},
        "cuda_archs \"sm_80,sm_81\": unknown: \"sm_81\"; known: 7.5, 8.0,",
    ),
    "no_arch": (
        {"cuda_archs": []},
        "cuda_archs \"\": none is given; known: 7.5, 8.0,",
    ),
    "arch_as_number": (
        {"cuda_archs": [80]},
        "cuda_archs = [80] is not allowed; allowed: a list of strings such as",
    ),
    "arch_as_string": (
        {"cuda_archs": "sm_80"},
        "cuda_archs = \"sm_80\" is not allowed; allowed: a list of strings such as",
    ),
    "selected_archs": (
        {"cuda_archs": select({"//conditions:default": ["sm_80"]})},
        "without select(); for a choice by configuration leave it out and use the flag --cuda_archs",
    ),
    "wrong_scheme": (
        {"quant_schemes": ["gptq_int4", "gptq_int3"]},
        "quant_schemes: \"gptq_int3\" is not in the table; known schemes: awq_int4, gptq_int4,",
    ),
    "no_scheme": (
        {"quant_schemes": []},
        "quant_schemes: no scheme is given; known schemes: awq_int4, gptq_int4,",
    ),
    "wrong_custom_scheme": (
        {"extra_quant_schemes": [_WRONG_SCHEME]},
        "quant scheme \"my_int4\": group_blocks = 0 is not allowed with b_type = \"kU4\", a_type = \"kFloat16\", s_type = \"kFloat16\"; allowed: -1, 2, 4, 8",
    ),
    "no_kernel": (
        {"cuda_archs": ["8.0"], "quant_schemes": ["mxfp4_afp8"]},
        "no kernel: none of the quant schemes mxfp4_afp8 has one for cuda_archs 8.0",
    ),
    "wrong_selector": (
        {"selector": "table"},
        "selector = \"table\" is not allowed; allowed: \"switch\", \"chain\"",
    ),
    "unfinished_selector_fallback": (
        {"selector_fallback": "return nullptr"},
        "selector_fallback = \"return nullptr\" is not allowed; allowed: a C++ statement in one line, such as \"return nullptr;\"",
    ),
    "long_selector_fallback": (
        {"selector_fallback": "log();\nreturn nullptr;"},
        "selector_fallback = \"log();\\nreturn nullptr;\" is not allowed; allowed: a C++ statement in one line",
    ),
    "selector_fallback_as_list": (
        {"selector_fallback": ["return nullptr;"]},
        "selector_fallback = [\"return nullptr;\"] is not allowed; allowed: a C++ statement in one line",
    ),
    "wrong_compress_mode": (
        {"compress_mode": "tiny"},
        "compress_mode = \"tiny\" is not allowed; allowed: \"default\", \"size\", \"speed\", \"balance\", \"none\"",
    ),
    "wrong_type_namespace": (
        {"type_namespace": "a-b"},
        "type_namespace = \"a-b\" is not allowed; allowed: a C++ namespace",
    ),
    "wrong_kernel_namespace": (
        {"kernel_namespace": "a::"},
        "kernel_namespace = \"a::\" is not allowed; allowed: a C++ namespace",
    ),
    "keyword_as_namespace": (
        {"kernel_namespace": "a::class"},
        "kernel_namespace = \"a::class\" is not allowed; allowed: a C++ namespace",
    ),
    "reserved_name_as_namespace": (
        {"type_namespace": "_Types"},
        "type_namespace = \"_Types\" is not allowed; allowed: a C++ namespace",
    ),
    "wrong_extra_family": (
        {"extra_families": ["sm90", "sm80"]},
        "extra_families: \"sm80\" is not allowed; allowed: sm90, or none",
    ),
    "extra_families_as_string": (
        {"extra_families": "sm90"},
        "extra_families = \"sm90\" is not allowed; allowed: a list of strings, without select()",
    ),
    "extra_families_of_another_template": (
        {"extra_families": ["sm90"], "kernel_hdrs": ["other/kernel.h", "other/marlin_template.h"]},
        "extra_families = [\"sm90\"] is not allowed with kernel_hdrs of another kernel tree; allowed: []",
    ),
    "no_kernel_headers": (
        {"kernel_hdrs": ["lonely/marlin_template.h"]},
        "kernel_hdrs lacks kernel.h: generated kernels include kernel.h and marlin_template.h",
    ),
}

# Architectures of the table that this version of rules_cuda does not know.
_UNKNOWN_TO_RULES_CUDA = [arch for arch in all_archs() if arch.number not in cuda_archs]

WRONG_TARGETS.update({
    "unknown_to_rules_cuda_" + arch.number: (
        {"cuda_archs": [arch.name]},
        "cuda_archs: this version of rules_cuda cannot compile for sm_{}; it can for 7.5, ".format(arch.number),
    )
    for arch in _UNKNOWN_TO_RULES_CUDA
})

def rule_fixtures(name):
    """Declares the targets.

    Args:
      name: prefix of the names of targets with right arguments.
    """
    write_file(
        name = name + "_another_generator",
        out = "another_generator.sh",
        is_executable = True,
        tags = ["manual"],
    )
    for out in [
        "helper_data.txt",
        "launcher.cu",
        "lonely/marlin_template.h",
        "other/kernel.h",
        "other/marlin_template.h",
        "other/more.h",
    ]:
        write_file(
            name = out + "_file",
            out = out,
            tags = ["manual"],
        )
    for suffix, archs in [
        ("flag", None),
        ("8.0", ["8.0"]),
        ("8.6", ["sm_86"]),
        ("ampere", ["86", "sm_80, 8.6"]),
        ("8.0_8.9", ["8.9", "8.0"]),
        ("all_families", ["7.5", "8.0", "8.9", "12.0f+PTX"]),
    ]:
        marlin_moe_kernels(
            name = "{}_{}".format(name, suffix),
            srcs = ["launcher.cu"],
            cuda_archs = archs,
            quant_schemes = SCHEMES,
            tags = ["manual"],
        )
    for suffix, archs, extra_families in [
        ("9.0_and_sm90", ["9.0"], ["sm90"]),
        ("9.0a_and_sm90", ["9.0a+PTX", "9.0", "8.0"], ["sm90"]),
        ("9.0_without_sm90", ["9.0"], []),
        ("8.9_and_sm90", ["8.9"], ["sm90"]),
    ]:
        marlin_moe_kernels(
            name = "{}_{}".format(name, suffix),
            cuda_archs = archs,
            extra_families = extra_families,
            quant_schemes = SCHEMES,
            tags = ["manual"],
        )
    write_file(
        name = name + "_built_for",
        out = "built_for.txt",
        content = select({"//built_for:8.0": ["8.0"], "//conditions:default": []}) +
                  select({"//built_for:8.9": ["8.9"], "//conditions:default": []}) +
                  select({"//built_for:9.0": ["9.0"], "//conditions:default": []}),
        tags = ["manual"],
    )
    cc_library(
        name = name + "_helper",
        srcs = ["helper.cc"],
        data = ["helper_data.txt"],
        tags = ["manual"],
    )
    marlin_moe_kernels(
        name = name + "_with_deps",
        cuda_archs = ["8.0"],
        quant_schemes = SCHEMES,
        tags = ["manual"],
        deps = [name + "_helper"],
    )
    kernels_for_family_archs(
        name = name + "_elsewhere",
        cuda_archs = ["8.9"],
        family_archs = {"sm75": ["9.0"]},
        quant_schemes = SCHEMES,
        tags = ["manual"],
    )
    marlin_moe_kernels(
        name = name + "_with_options",
        compress_mode = "none",
        copts = ["-DOPTION"],
        cuda_archs = ["8.0"],
        quant_schemes = SCHEMES,
        tags = ["manual"],
    )
    marlin_moe_kernels(
        name = name + "_with_other_headers",
        cuda_archs = ["8.0"],
        kernel_hdrs = ["other/kernel.h", "other/marlin_template.h"],
        quant_schemes = SCHEMES,
        tags = ["manual"],
    )

    marlin_moe_kernels(
        name = name + "_with_other_headers_for_flag",
        kernel_hdrs = ["other/kernel.h", "other/marlin_template.h"],
        quant_schemes = SCHEMES,
        tags = ["manual"],
    )

    # This module's headers, named.
    for suffix, headers in [
        ("default_headers", ["//csrc/marlin_moe:kernel_hdrs"]),
        ("more_headers", ["other/more.h", "@marlin_moe_kernels//csrc/marlin_moe:kernel_hdrs"]),
    ]:
        marlin_moe_kernels(
            name = "{}_with_{}".format(name, suffix),
            cuda_archs = ["8.0"],
            kernel_hdrs = headers,
            quant_schemes = SCHEMES,
            tags = ["manual"],
        )
    marlin_moe_kernels(
        name = name + "_every_scheme",
        tags = ["manual"],
    )
    for wrong_name, (arguments, _) in WRONG_TARGETS.items():
        marlin_moe_kernels(
            name = wrong_name,
            tags = ["manual"],
            **arguments
        )
