"""The tensors of one projection of all experts, taken by the names that a checkpoint gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import _arrays
from ..errors import invalid

# One-byte types that frameworks index and join as bytes only.
_BYTES = ("float8_e4m3fn", "float8_e8m0fnu", "uint8")
FLOATS = ("float16", "bfloat16", "float32")


class Projection:
    """The tensors of a projection: each is taken once, and none may be left."""

    def __init__(self, name: str, tensors: Mapping[str, Any]) -> None:
        """Names the projection for messages, and its tensors as the checkpoint does."""
        self._name = name
        self._left = dict(tensors)
        self._experts: int | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def label(self, name: str) -> str:
        """Returns how messages call a tensor."""
        return f"{self._name}['{name}']"

    def take(
        self, name: str, dtypes: Sequence[str], lengths: Sequence[int | None], layout: str
    ) -> Any:
        """Takes a tensor of all experts; one-byte types come as bytes.

        Args:
          name: as the checkpoint has it.
          dtypes: names of the element types that it may have.
          lengths: of the dimensions after the experts'; None: any.
          layout: the same in words.

        Raises:
          InvalidArgumentError: there is none, or it is of another type or shape.
        """
        if name not in self._left:
            given = f"a mapping with {', '.join(map(repr, self._left)) or 'nothing left'}"
            raise invalid(self._name, given, f"one that has '{name}', {layout}")
        given = self._left.pop(name)
        # A list has one tensor for each expert.
        several = isinstance(given, (list, tuple))
        entries = list(given) if several else [given]
        if not entries:
            raise invalid(self.label(name), "an empty list", layout)
        for entry in entries:
            _arrays.framework(self.label(name), entry)
            if _arrays.dtype_name(entry) not in dtypes:
                raise invalid(
                    self.label(name), f"dtype {_arrays.dtype_name(entry)}", ", ".join(dtypes)
                )
        if _arrays.dtype_name(entries[0]) in _BYTES:
            entries = [_arrays.view(entry, "uint8") for entry in entries]
        array = self._stack(name, entries) if several else entries[0]
        self._check_shape(name, array, lengths, layout)
        return array

    def one_of(self, *names: str) -> str:
        """Returns which of some names the one tensor that there must be of them has.

        Raises:
          InvalidArgumentError: there is none, or there are several.
        """
        found = [name for name in names if name in self]
        if len(found) != 1:
            given = " and ".join(found) or "neither"
            raise invalid("tensors", given, f"one of {', '.join(names)}")
        return found[0]

    def optional(
        self, name: str, dtypes: Sequence[str], lengths: Sequence[int | None], layout: str
    ) -> Any:
        """Takes a tensor if there is one; None if not."""
        return self.take(name, dtypes, lengths, layout) if name in self else None

    def drop(self, *names: str) -> None:
        """Leaves out tensors that say nothing about the weights."""
        for name in names:
            self._left.pop(name, None)

    def dtype(self, name: str) -> str:
        """Returns the element type of a tensor that is still to be taken; empty for none."""
        given = self._left.get(name)
        first = given[0] if isinstance(given, (list, tuple)) and given else given
        return _arrays.dtype_name(first) if hasattr(first, "dtype") else ""

    def rank(self, name: str) -> int:
        """Returns the dimensions after the experts' of a tensor that is still to be taken."""
        given = self._left.get(name)
        if isinstance(given, (list, tuple)):
            return len(getattr(given[0], "shape", ())) if given else 0
        return max(0, len(getattr(given, "shape", ())) - 1)

    def done(self) -> None:
        """Refuses what nobody has taken: it would change what the weights mean."""
        if self._left:
            given = f"a mapping with {', '.join(map(repr, self._left))}"
            raise invalid(self._name, given, "one without, for this format and this scheme")

    def _stack(self, name: str, entries: list[Any]) -> Any:
        shapes = sorted({tuple(entry.shape) for entry in entries})
        if len(shapes) > 1:
            raise invalid(self.label(name), f"shapes {shapes}", "one shape for all experts")
        return _arrays.framework(self.label(name), entries[0]).stack(entries, 0)

    def _check_shape(
        self, name: str, array: Any, lengths: Sequence[int | None], layout: str
    ) -> None:
        wanted = (self._experts, *lengths)
        shape = tuple(array.shape)
        fits = len(shape) == len(wanted) and all(
            wish is None or wish == length for wish, length in zip(wanted, shape, strict=True)
        )
        if not fits or 0 in shape:
            text = ", ".join("any" if wish is None else str(wish) for wish in wanted)
            raise invalid(self.label(name), f"shape {shape}", f"shape ({text}), which is {layout}")
        self._experts = shape[0]


def projections(tensors: Any) -> list[Projection]:
    """Takes the tensors of one projection, or of gate and up.

    Raises:
      InvalidArgumentError: they are neither a mapping nor two of them.
    """
    if isinstance(tensors, Mapping):
        return [Projection("tensors", tensors)]
    if isinstance(tensors, (list, tuple)) and all(isinstance(part, Mapping) for part in tensors):
        if len(tensors) == 2:
            return [Projection(f"tensors[{i}]", part) for i, part in enumerate(tensors)]
        given = f"{len(tensors)} mappings"
    else:
        given = f"{type(tensors).__name__} object"
    raise invalid("tensors", given, "a mapping of names to tensors, or two: gate and up")
