"""Providers that the rules of this module hand on."""

visibility("//...")

CudaArchsSettingInfo = provider(
    doc = "The checked value of the flag `//:cuda_archs`.",
    fields = {
        "archs": "List of structs as parse_cuda_archs() in archs.bzl returns it.",
    },
)

ExtraFamiliesSettingInfo = provider(
    doc = "The checked value of the flag `//:extra_families`.",
    fields = {
        "families": "List of names of kernel families.",
    },
)

MarlinGeneratedInfo = provider(
    doc = "What one generator action writes.",
    fields = {
        "archs": "List of the normalised architectures asked for (structs of archs.bzl).",
        "families": "List of the names of the kernel families with at least one kernel.",
        "manifest": "File: manifest.json, which lists every instantiation with its file.",
        "schemes": "List of the names of the quantisation schemes used.",
        "selector": "File: kernel_selector.h.",
        "selectors": "List of Files: it, and those of families that have one of their own.",
        "sources": "Dict from family name to the list of its kernel Files.",
        "specs": "Dict from family name, or `srcs`, to the list of arch specs it is compiled for.",
        "tiles": "Dict from family name to its tiles, as built_tiles() in generate.bzl returns them.",
    },
)

MarlinGeneratorInfo = provider(
    doc = "A Python program, and what an action needs to run it.",
    fields = {
        "files": "Depset of Files: program, libraries and interpreter.",
        "folders": "List of the folders to import from, as an action sees them.",
        "interpreter": "File of the interpreter, or a path on the machine that runs the action.",
        "main": "File of the program.",
        "start": "File of tools/marlin_gen/start.py.",
    },
)

MarlinKernelsInfo = provider(
    doc = "What a `marlin_moe_kernels` target holds. Its code comes with `CcInfo`.",
    fields = {
        "archs": "List of strings: the CUDA architectures asked for, normalised and ascending, for " +
                 "example `[\"8.0\", \"9.0a+PTX\"]`.",
        "families": "List of strings: the kernel families that have kernels here, for example " +
                    "`[\"sm80\", \"sm89\"]`.",
        "manifest": "File: manifest.json, which lists every instantiation with its file.",
        "schemes": "List of strings: the quantisation schemes, in table order, custom ones last.",
        "selector": "File: kernel_selector.h, which finds the kernel for given types and tile.",
        "sources": "Depset of Files: the generated kernel files.",
        "specs": "Dict from family, or `srcs` for hand-written sources, to the list of the arch " +
                 "specs of rules_cuda that its files are compiled for, for example " +
                 "`{\"sm80\": [\"compute_80:sm_80\"]}`.",
    },
)
