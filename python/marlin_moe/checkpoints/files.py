"""Tensors of all experts, found by the pattern of their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..errors import LibraryError, invalid

_FIELDS = {"expert": r"(?P<expert>[0-9]+)", "projection": r"(?P<projection>.+?)"}
_TENSOR = r"(?P<tensor>[^.]+)"


def read_experts(
    source: Any,
    pattern: str,
    *,
    projections: Sequence[str] | None = None,
    experts: Sequence[int] | None = None,
    framework: str = "pt",
    device: str = "cuda",
) -> list[dict[str, Any]]:
    """Reads the tensors of a layer's experts, for ExpertWeights.from_gptq() and its like.

        gate_up = read_experts(
            folder,
            "model.layers.0.mlp.experts.{expert}.{projection}.{tensor}",
            projections=["gate_proj", "up_proj"],
        )

    Args:
      source: a safetensors file, a folder with such files, or a mapping of names to tensors.
      pattern: names of the tensors. `{tensor}` is what is read, such as qweight, without a dot;
        `{expert}` a number, missing where the checkpoint has all experts in one tensor;
        `{projection}` one of `projections`.
      projections: in their order, gate before up; None where the pattern names none.
      experts: which ones, in their order, such as those of this device; None: all.
      framework: of the tensors, as safetensors calls it: `pt` for PyTorch.
      device: where files are read to.

    Returns:
      for each projection, or the only one, a mapping of tensor names to tensors: a list of one for
      each expert, or one with all experts.

    Raises:
      InvalidArgumentError: nothing has such a name, or experts or tensors are missing.
      LibraryError: a file is to be read and safetensors cannot be imported.
    """
    found = _Names(pattern, projections, experts)
    with _opened(source, framework, device) as (names, get):
        found.match(names)
        return [found.read(name, get) for name in projections or [""]]


class _Names:
    """Names of a checkpoint by projection, tensor and expert."""

    def __init__(
        self, pattern: str, projections: Sequence[str] | None, experts: Sequence[int] | None
    ) -> None:
        self._pattern = pattern
        self._experts = experts
        self._expression = _expression(pattern, projections)
        self._by_projection: dict[str, dict[str, dict[int, str]]] = {}

    def match(self, names: Iterable[str]) -> None:
        for name in names:
            match = self._expression.fullmatch(name)
            if match is None:
                continue
            fields = match.groupdict()
            tensors = self._by_projection.setdefault(fields.get("projection") or "", {})
            expert = int(fields.get("expert") or -1)
            tensors.setdefault(match["tensor"], {})[expert] = name

    def read(self, projection: str, get: Callable[[str], Any]) -> dict[str, Any]:
        tensors = self._by_projection.get(projection)
        if not tensors:
            named = f"{self._pattern!r}" + (f" with {projection!r}" if projection else "")
            raise invalid("pattern", named, "one that names tensors of the source")
        if "{expert}" not in self._pattern:
            return {tensor: self._all(get(names[-1])) for tensor, names in tensors.items()}
        wanted = self._wanted(tensors)
        read: dict[str, Any] = {}
        for tensor, names in tensors.items():
            missing = [expert for expert in wanted if expert not in names]
            if missing:
                given = f"{tensor} of {projection or 'the experts'} without experts {missing}"
                raise invalid("source", given, "all experts, each with the same tensors")
            read[tensor] = [get(names[expert]) for expert in wanted]
        return read

    def _all(self, tensor: Any) -> Any:
        return tensor if self._experts is None else tensor[list(self._experts)]

    def _wanted(self, tensors: dict[str, dict[int, str]]) -> list[int]:
        """Returns the experts to read; without `experts`, as many as the highest number says."""
        if self._experts is not None:
            return list(self._experts)
        return list(range(1 + max(max(names) for names in tensors.values())))


def _expression(pattern: Any, projections: Sequence[str] | None) -> re.Pattern[str]:
    if not isinstance(pattern, str) or pattern.count("{tensor}") != 1:
        raise invalid("pattern", repr(pattern), "a string that has {tensor} once")
    if isinstance(projections, str) or (projections is None) != ("{projection}" not in pattern):
        raise invalid(
            "projections",
            repr(projections),
            "a list where the pattern has {projection}, None where it has not",
        )
    text = ""
    for piece in re.split(r"(\{\w*\})", pattern):
        name = piece[1:-1]
        if piece == "{tensor}":
            text += _TENSOR
        elif piece[:1] == "{" and name in _FIELDS and _FIELDS[name] not in text:
            text += _FIELDS[name]
        elif piece[:1] == "{":
            raise invalid("pattern", piece, "{expert}, {projection} and {tensor}, each once")
        else:
            text += re.escape(piece)
    return re.compile(text)


@contextmanager
def _opened(
    source: Any, framework: str, device: str
) -> Iterator[tuple[list[str], Callable[[str], Any]]]:
    """Yields the names of all tensors, and what reads one."""
    if isinstance(source, Mapping):
        yield list(source), source.__getitem__
        return
    with ExitStack() as stack:
        where: dict[str, Any] = {}
        for path in _files(source):
            file = stack.enter_context(_safe_open(path, framework, device))
            where.update(dict.fromkeys(file.keys(), file))
        yield list(where), lambda name: where[name].get_tensor(name)


def _files(source: Any) -> list[Path]:
    try:
        path = Path(source)
    except TypeError:
        raise invalid(
            "source", f"{type(source).__name__} object", "a path, or a mapping of tensors"
        ) from None
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise invalid("source", source, "a safetensors file, or a folder with such files")
    return files


def _safe_open(path: Path, framework: str, device: str) -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise LibraryError(f"{path} needs the PyPI package safetensors: {error}") from error
    try:
        return safetensors.safe_open(path, framework=framework, device=device)
    except Exception as error:
        raise invalid("source", path, f"a file that safetensors can read ({error})") from error
