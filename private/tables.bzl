"""All tables in one value, for the generator's input.

A build action reads them as JSON, so that comments and layout of the .bzl files are no input of it.
Without Bazel tools/marlin_gen parses the .bzl files.
"""

load(":cxx_keywords.bzl", "CXX_KEYWORDS")
load(":families.bzl", "ARCHS", "FAMILIES", "SCALAR_TYPES")
load(
    ":quant_schemes.bzl",
    "FURTHER_QUANT_SCHEMES",
    "KERNEL_COSTS",
    "PART_COST",
    "QUANT_SCHEMES",
    "SCHEME_COMBINATIONS",
    "SCHEME_HEADERS",
    "SCHEME_LIMITS",
    "SM90_KERNEL_COST",
    "SM90_TILES",
    "TILE_SETS",
)

visibility("//...")

# By the names of the tables. Keys of JSON objects are strings.
TABLES = {
    "ARCHS": ARCHS,
    "CXX_KEYWORDS": CXX_KEYWORDS,
    "FAMILIES": FAMILIES,
    "FURTHER_QUANT_SCHEMES": FURTHER_QUANT_SCHEMES,
    "KERNEL_COSTS": {str(bits): costs for bits, costs in KERNEL_COSTS.items()},
    "PART_COST": PART_COST,
    "QUANT_SCHEMES": QUANT_SCHEMES,
    "SCALAR_TYPES": SCALAR_TYPES,
    "SCHEME_COMBINATIONS": SCHEME_COMBINATIONS,
    "SCHEME_HEADERS": SCHEME_HEADERS,
    "SCHEME_LIMITS": SCHEME_LIMITS,
    "SM90_KERNEL_COST": SM90_KERNEL_COST,
    "SM90_TILES": SM90_TILES,
    "TILE_SETS": TILE_SETS,
}
