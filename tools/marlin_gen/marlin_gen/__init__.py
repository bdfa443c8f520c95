"""Generator of the Marlin MoE kernel instantiations, the kernel selector and the manifest.

tables       the project's tables, read from private/*.bzl
archs        text such as "8.0,sm_89+PTX" to architectures, and these to kernel families
schemes      quantisation schemes and their checks
kernels      one instantiation, and the enumeration of all
spec         what to generate, from JSON or from the command line
render       instantiations to the text of every file
output       these texts to disk, whole or not at all
listing      instantiations to the table that --list shows
generation   the functions for other Python programs
command_line the program gen.py
"""
