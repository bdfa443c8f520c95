"""Runs a Python program with folders to import from, under an interpreter started with -I -S.

    start.py FOLDER... -- PROGRAM ARGUMENT...

Such an interpreter knows only the standard library: it reads no site-packages of the machine or the
user, and no variable of the environment.
"""

import runpy
import sys

_end = sys.argv.index("--")
sys.path += sys.argv[1:_end]
sys.argv = sys.argv[_end + 1 :]
runpy.run_path(sys.argv[0], run_name="__main__")
