"""Reads the JSON files that users and the Bazel rule hand to the generator."""

import json
from pathlib import Path
from typing import Any

from marlin_gen.errors import GeneratorError, problem_of, spelled


def read_json(path: Path, subject: str) -> Any:
    """What a JSON file holds.

    Args:
      path: the file.
      subject: what the file is, for messages: "spec", "quant scheme file".

    Raises:
      GeneratorError: the file cannot be read, is no JSON, gives a field twice, or is nested so
        deeply that Python cannot parse it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except OSError as error:
        problem = problem_of(error)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)
    raise GeneratorError(f"{subject} {path.name or path} cannot be read: {problem}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dictionary."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {spelled(twice)} is given twice")
    return fields
