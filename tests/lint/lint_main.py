"""Runs one check of lint.py; a program of its own, because a source belongs to one kind of target.

rules_python compiles the sources of a test and of a library in different configurations, and Bazel
refuses two actions that write one file.
"""

from __future__ import annotations

import sys

import lint

if __name__ == "__main__":
    sys.exit(lint.main(sys.argv[1:]))
