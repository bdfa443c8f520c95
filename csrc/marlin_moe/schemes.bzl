"""Which quantisation schemes the kernel template of this package implements."""

# Names out of the table in //private:quant_schemes.bzl.
IMPLEMENTED_QUANT_SCHEMES = [
    "awq_int4",
    "gptq_int4",
]
