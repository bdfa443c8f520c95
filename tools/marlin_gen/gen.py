"""Writes the Marlin MoE kernel files, their selector and their manifest.

On the command line, with every kernel of the table that the architectures can run:
  gen.py "8.0,8.9,9.0" [DIR] [--schemes gptq_int4,mxfp4] [--scheme FILE.json ...]
         [--selector switch|chain] [--type-namespace NAME] [--kernel-namespace NAME]
         [--no-scheme-headers] [--selector-fallback STATEMENT] [--extra-families sm90]
         [--clean]
  gen.py "8.0,8.9" --list [--json] [--filter schemes=mxfp4 ...]
                                       shows the kernels, writes nothing
  gen.py --list-schemes                shows the names for --schemes
  gen.py --clean [--out-dir DIR]       removes what this program wrote into DIR

DIR, or --out-dir DIR, defaults to the working directory. Separate architectures by commas,
semicolons or spaces; several arguments are one list, as CMake expands "80;90".

FILE.json describes a custom scheme: an object with the fields of quant_scheme() in a BUILD file.
  {"name": "my_int4", "a_type": ["kFloat16"], "b_type": "kU4", "thread_configs": [[128, 128, 256]],
   "thread_m_blocks": [1, 2], "group_blocks": [4]}

As a build action, with the spec that the Bazel rule writes:
  gen.py --spec SPEC --outputs FILE...

Kernels that share family and types of activations, weights and output are in one file, or in parts
FILE.cu, FILE_2.cu, ... that hold some kinds of scales each, so that no compile is long. Besides
kernel.h and marlin_template.h a file includes the one header of this module that decodes its
weights, so that a change of that header compiles no other file.

The program removes files of an earlier run that are no longer wanted from DIR, and touches nothing
else there. The exit status is 0, 1 if something is not allowed, 2 if options do not go together.
"""

# Python 2.7 can read all of this file, so that an old Python gets a sentence.
import sys

if __name__ == "__main__" and sys.hexversion < 0x030A0000:
    _given = ".".join(map(str, sys.version_info[:3]))
    sys.exit("gen.py: error: this is Python " + _given + "; run it with Python 3.10 or newer")

import importlib.util
import os

if __name__ == "__main__" and importlib.util.find_spec("jinja2") is None:
    sys.exit(
        "gen.py: error: the package jinja2 is missing; "
        + sys.executable
        + " -m pip install jinja2 installs it"
    )

# The package next to this file, also where this file is a link, as in Bazel's runfiles.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from marlin_gen.command_line import main
from marlin_gen.generation import generate_new_kernels, remove_old_kernels

__all__ = ["generate_new_kernels", "remove_old_kernels"]

if __name__ == "__main__":
    sys.exit(main(__doc__ or ""))
