"""Unpacks one package of the Debian suite that Bazel comes from: debian_package.py PACKAGE FOLDER.

The folder must be there already. Stand-ins for Bazel modules call this.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The modules beside this file, which `python3 -I` does not look for.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bazel_prefix import SUITE
from debian import Suite
from errors import BootstrapError


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    package, folder = sys.argv[1], Path(sys.argv[2])
    try:
        (folder / "apt").mkdir()
        suite = Suite(SUITE, folder / "apt")
        suite.update(package)
        suite.extract([package], folder)
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
