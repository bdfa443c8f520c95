"""Runs pytest on the files named on the command line; no test at all is a failure."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["-p", "no:cacheprovider", "--import-mode=importlib", *sys.argv[1:]]))
