"""Unpacks Debian's package of Stardoc: fetch.py OFFLINE DESTINATION.

OFFLINE is the folder of the bootstrap's sources, which know how to reach the machine's mirror.
"""

import sys
from pathlib import Path


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    sys.path.insert(0, sys.argv[1])
    from bazel_prefix import SUITE
    from debian import Suite
    from errors import BootstrapError

    destination = Path(sys.argv[2])
    try:
        (destination / "apt").mkdir()
        suite = Suite(SUITE, destination / "apt")
        suite.update("bazel-stardoc")
        suite.extract(["bazel-stardoc"], destination)
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
