"""Files of the same name have the same bytes, wherever and however they were built.

Arguments: the files, each name at least twice.
"""

import hashlib
import sys
from collections import defaultdict
from pathlib import Path


def main(*arguments: str) -> None:
    if len({Path(argument).resolve() for argument in arguments}) < len(arguments):
        sys.exit(f"the same file twice: {arguments}")
    digests = defaultdict(list)
    for path in map(Path, arguments):
        digests[path.name].append(hashlib.sha256(path.read_bytes()).hexdigest())
    problems = [f"{name}: only one file" for name, found in digests.items() if len(found) == 1]
    problems += [f"{name}: {found}" for name, found in digests.items() if len(set(found)) > 1]
    if problems or not digests:
        sys.exit("\n".join(problems or ["no file was given"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
