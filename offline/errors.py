"""The error that ends a bootstrap: what failed, what was tried, what to do."""

from __future__ import annotations

# Lines of a failed command's own output that a message repeats.
_SAID_LINES = 15


class BootstrapError(Exception):
    """A failure that the user can act on.

    Args:
        what: one sentence on what failed
        tried: the command or the places that were tried
        said: output of the failed command; its last lines are shown
        advice: what the user can do about it
    """

    def __init__(self, what: str, *, tried: str = "", said: str = "", advice: str = "") -> None:
        lines = [what]
        if tried:
            lines.append(f"  tried: {tried}")
        lines += [f"  | {line}" for line in said.strip().splitlines()[-_SAID_LINES:]]
        if advice:
            lines.append(f"  to do: {advice}")
        super().__init__("\n".join(lines))
