"""Tables of CUDA architectures, kernel families and scalar types.

Literals only: Starlark loads this file, and tools/marlin_gen parses it with Python's `ast`, so that
both sides read one table. Logic belongs elsewhere (private/archs.bzl, tools/marlin_gen).
"""

visibility("//...")

# Compute capabilities that nvcc 13.0 can compile for and the kernels are meant for, ascending.
#   suffixes: what may follow the number: "a" (architecture-specific), "f" (family-specific).
ARCHS = [
    {"capability": "7.5", "suffixes": []},
    {"capability": "8.0", "suffixes": []},
    {"capability": "8.6", "suffixes": []},
    {"capability": "8.7", "suffixes": []},
    {"capability": "8.8", "suffixes": []},
    {"capability": "8.9", "suffixes": []},
    {"capability": "9.0", "suffixes": ["a"]},
    {"capability": "10.0", "suffixes": ["a", "f"]},
    {"capability": "10.3", "suffixes": ["a", "f"]},
    {"capability": "11.0", "suffixes": ["a", "f"]},
    {"capability": "12.0", "suffixes": ["a", "f"]},
    {"capability": "12.1", "suffixes": ["a", "f"]},
]

# Those of Tegra parts: Orin (8.7), a handheld's (8.8), Thor (11.0). CUDA promises binary compatibility
# between devices of one major version, but not between these and the others.
TEGRA_CAPABILITIES = ["8.7", "8.8", "11.0"]

# A kernel family is a set of kernels that share file prefix, template, pipeline depth and the
# capabilities they can run on.
#   capabilities: what its files are compiled for, out of those asked for.
#   suffix: the variant that its files are compiled for, whichever variant is asked for. PTX of such a
#     variant runs nowhere else, so none is embedded. Empty: the variant asked for.
#   template: the kernel template that its files instantiate.
#   extra: whether it goes beyond the documented families. It needs this module's kernels, and is left
#     out where extra_families does not name it. The flag's default names all of them.
#   a_types, c_types: activation and output types its instantiations may have.
#   stages: depth of the shared-memory pipeline; 0: as many stages as fit.
#   tile_table: the table of quant_schemes.bzl that its tiles are in; empty: those of the schemes.
#   selector: the header that finds its kernels.
FAMILIES = [
    {
        "name": "sm75",
        "capabilities": ["7.5"],
        "suffix": "",
        "template": "Marlin",
        "extra": False,
        "a_types": ["kFloat16", "kS8"],
        "c_types": ["kFloat16"],
        "stages": 2,
        "tile_table": "",
        "selector": "kernel_selector.h",
    },
    {
        "name": "sm80",
        "capabilities": ["8.0", "8.6", "8.7", "8.8", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1"],
        "suffix": "",
        "template": "Marlin",
        "extra": False,
        "a_types": ["kFloat16", "kBFloat16", "kS8"],
        "c_types": ["kFloat16", "kBFloat16"],
        "stages": 4,
        "tile_table": "",
        "selector": "kernel_selector.h",
    },
    {
        "name": "sm89",
        "capabilities": ["8.9", "12.0", "12.1"],
        "suffix": "",
        "template": "Marlin",
        "extra": False,
        "a_types": ["kFE4M3fn"],
        "c_types": ["kFloat16", "kBFloat16"],
        "stages": 4,
        "tile_table": "",
        "selector": "kernel_selector.h",
    },
    {
        "name": "sm90",
        "capabilities": ["9.0"],
        "suffix": "a",
        "template": "MarlinSm90",
        "extra": True,
        "a_types": ["kFloat16", "kBFloat16", "kS8", "kFE4M3fn"],
        "c_types": ["kFloat16", "kBFloat16"],
        "stages": 0,
        "tile_table": "SM90_TILES",
        "selector": "sm90_kernel_selector.h",
    },
]

# Scalar types, by the name of their constant in the kernels' C++ type namespace. A file name spells a
# type as that name without the leading k, in lower case.
#   roles: operands that may have the type: activations a, weights b, output c, scales s.
SCALAR_TYPES = [
    {"name": "kFloat16", "bits": 16, "roles": ["a", "c", "s"]},
    {"name": "kBFloat16", "bits": 16, "roles": ["a", "c", "s"]},
    {"name": "kS8", "bits": 8, "roles": ["a"]},
    {"name": "kFE4M3fn", "bits": 8, "roles": ["a", "b", "s"]},
    {"name": "kU4", "bits": 4, "roles": ["b"]},
    {"name": "kU4B8", "bits": 4, "roles": ["b"]},
    {"name": "kU8B128", "bits": 8, "roles": ["b"]},
    {"name": "kFE2M1f", "bits": 4, "roles": ["b"]},
    {"name": "kFE8M0fnu", "bits": 8, "roles": ["s"]},
]
