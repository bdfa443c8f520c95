"""Build settings: the architectures to compile for, and options from the command line.

An architecture list is specs joined by `;`. A spec is `[compute_N:]code[,code…]`, a code one of
`sm_N`, `compute_N` (embeds PTX) and `lto_N`. A spec without its virtual architecture is compiled
from the lowest one among its codes.
"""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")

# The architectures that rules_cuda 0.3.0 knows: the numbers that codes may have.
cuda_archs = [
    "30",
    "32",
    "35",
    "37",
    "50",
    "52",
    "53",
    "60",
    "61",
    "62",
    "70",
    "72",
    "75",
    "80",
    "86",
    "87",
    "89",
    "90",
    "90a",
    "100",
    "100a",
    "100f",
    "101",
    "101a",
    "101f",
    "103",
    "103a",
    "103f",
    "120",
    "120a",
    "120f",
    "121",
    "121a",
    "121f",
]

Stage2ArchInfo = provider(
    doc = "One code of a spec; one of the three flags is true.",
    fields = {
        "arch": "number, such as 90a",
        "gpu": "whether it is a cubin",
        "lto": "whether it is for link-time optimisation",
        "virtual": "whether it is PTX",
    },
)

ArchSpecInfo = provider(
    doc = "What is made of one virtual architecture.",
    fields = {
        "stage1_arch": "number of the virtual architecture",
        "stage2_archs": "list of Stage2ArchInfo",
    },
)

CudaArchsInfo = provider(
    doc = "What to compile for.",
    fields = {"arch_specs": "list of ArchSpecInfo"},
)

def _parse_code(text):
    kind, _, number = text.strip().partition("_")
    if kind not in ("sm", "compute", "lto") or number not in cuda_archs:
        fail("{} is not a supported cuda arch".format(text))
    return Stage2ArchInfo(
        arch = number,
        gpu = kind == "sm",
        lto = kind == "lto",
        virtual = kind == "compute",
    )

def _age(number):
    """A key that orders architecture numbers, a suffix after the bare number."""
    digits = number.rstrip("af")
    return (int(digits), number[len(digits):])

def _parse_spec(text):
    parts = text.split(":")
    if len(parts) > 2:
        fail("{} has more than one colon; a spec is [compute_N:]code[,code]".format(text))
    codes = [_parse_code(code) for code in parts[-1].split(",")]
    if len(parts) == 1:
        lowest = min([code.arch for code in codes], key = _age)
        return ArchSpecInfo(stage1_arch = lowest, stage2_archs = codes)
    compiled_from = _parse_code(parts[0])
    if not compiled_from.virtual:
        fail("expect a virtual architecture, got {}".format(parts[0]))
    return ArchSpecInfo(stage1_arch = compiled_from.arch, stage2_archs = codes)

def parse_archs(text):
    """Parses an architecture list.

    Args:
        text: the list; see this file's first paragraph

    Returns:
        CudaArchsInfo
    """
    return CudaArchsInfo(
        arch_specs = [_parse_spec(spec.strip()) for spec in text.split(";") if spec.strip()],
    )

def gencode_flags(archs):
    """nvcc's options that make it compile for these architectures.

    Args:
        archs: CudaArchsInfo

    Returns:
        A list of strings.
    """
    flags = []
    for spec in archs.arch_specs:
        for code in spec.stage2_archs:
            kind = "sm" if code.gpu else "lto" if code.lto else "compute"
            flags += ["-gencode", "arch=compute_{},code={}_{}".format(spec.stage1_arch, kind, code.arch)]
    return flags

archs_flag = rule(
    doc = "A command-line flag that takes an architecture list.",
    implementation = lambda ctx: parse_archs(ctx.build_setting_value),
    build_setting = config.string(flag = True),
)

def _repeatable_flag_impl(ctx):
    return BuildSettingInfo(value = [value for value in ctx.build_setting_value if value])

repeatable_flag = rule(
    doc = "A command-line flag whose values add up.",
    implementation = _repeatable_flag_impl,
    build_setting = config.string(flag = True, allow_multiple = True),
)
