"""Values of options that the GPU drivers share; wrong ones are refused before anything runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def positive(text: str) -> int:
    """Reads how many there shall be of something, at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is given; it must be a number, 1 or more")
    return int(text)


def fraction(text: str) -> float:
    """Reads a part of something, 0 to 1 without 1 itself."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is given; it must be from 0 to below 1")
    return value


def results_file(text: str) -> Path:
    """Reads the name of a file that takes results: in a folder that is there."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is given; name a file in a folder that exists")
    return path


def write_results(path: Path, results: Any) -> None:
    """Writes results as JSON."""
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
