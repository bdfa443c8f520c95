"""The one error of the generator, and how its messages spell values."""

import json
import reprlib

# Values come from files, so their size and depth are anybody's; a message stays one line.
_SPELLING = reprlib.Repr()
_SPELLING.maxlevel = 4
_SPELLING.maxlist = _SPELLING.maxdict = _SPELLING.maxtuple = 16
_SPELLING.maxstring = _SPELLING.maxother = _SPELLING.maxlong = 200


class GeneratorError(Exception):
    """Bad input or a file in the way; the message says what was given and what is allowed."""


def spelled(value: object) -> str:
    """A value as messages show it: strings in double quotes, long ones and deep ones cut."""
    if isinstance(value, str):
        cut = value if len(value) <= 200 else value[:200] + "..."
        return json.dumps(cut, ensure_ascii=False)
    return _SPELLING.repr(value)


def problem_of(error: OSError) -> str:
    """What the operating system has against a file, with the file's name if it is known."""
    name = "" if error.filename is None else f"{error.filename}: "
    return f"{name}{error.strerror or error}"
