"""Files of measured configurations, which tune() writes and MoeLayer reads.

    {"format": 1, "version": "0.1.0", "layers": [
        {"key": {"gpu": ..., "hidden": 2048, ...},
         "choices": [{"tokens": 16, "top_k": 8, "block_size": 16,
                      "gate_up": [64, 256, 256, 0, -1, -1], "down": null, ...}]}]}

A configuration is a GemmConfig, or null for the library's choice. A file is good for one version of
the package: another one may have other kernels, and another choice of its own.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ._function import of_jax
from ._library import function
from .errors import InvalidArgumentError, invalid

_VARIABLE = "MARLIN_MOE_TUNING"
_FORMAT = 1
_AGAIN = "a file that tune() of this version of the package has written: run it again"
_NUMBERS = 6  # of a configuration


@dataclass(frozen=True)
class Key:
    """What a measurement is for, but for the number of tokens.

    Attributes:
      gpu: name of the GPU.
      hidden: rows of GEMM 1.
      intermediate: rows of GEMM 2.
      columns: columns of GEMM 1.
      local_experts: experts of the weights.
      num_experts: experts of all devices.
      gate_up: types of GEMM 1's weights, and which tensors they have.
      down: likewise of GEMM 2.
    """

    gpu: str
    hidden: int
    intermediate: int
    columns: int
    local_experts: int
    num_experts: int
    gate_up: str
    down: str

    @classmethod
    def of(cls, gate_up: Any, down: Any, num_experts: int | None) -> Key:
        """Returns the key of a layer."""
        (experts, rows, _), (_, inner, _) = gate_up.b.shape, down.b.shape
        return cls(
            gpu=str(function("device_name")(gate_up.handle)),
            hidden=16 * rows,
            intermediate=16 * inner,
            columns=gate_up.scales.shape[2],
            local_experts=experts,
            num_experts=num_experts or experts,
            gate_up=_kind(gate_up),
            down=_kind(down),
        )


def _kind(weights: Any) -> str:
    types = (weights.b_type, weights.a_type, weights.c_type, weights.s_type)
    names = [getattr(name, "value", name) or "-" for name in types]
    scales = str(weights.scales.dtype).rpartition(".")[2]
    given = [name for name in ("zero_points", "g_idx") if getattr(weights, name) is not None]
    return " ".join([*names, scales, f"group {weights.group_size}", *given])


def file_name(given: str | None) -> str | None:
    """Returns the file to use: the one given, or that of the environment."""
    return os.environ.get(_VARIABLE) or None if given is None else given


def tuned(given: str | None, gate_up: Any, down: Any, num_experts: int | None) -> Any:
    """Returns what the library is told of the measurements for a layer, None if there are none.

    Raises:
      InvalidArgumentError: the file cannot be read, or is of another version.
    """
    name = file_name(given)
    if name is None:
        return None
    if of_jax(gate_up.handle):  # whose device only the program knows
        if given is not None:
            raise invalid("tuning", given, "None with arrays of JAX")
        return None
    key = Key.of(gate_up, down, num_experts)
    fields = ("tokens", "top_k", "block_size", "gate_up", "down")
    choices = read(name).get(key, [])
    return [[choice[field] for field in fields] for choice in choices] or None


def read(name: str) -> dict[Key, list[dict[str, Any]]]:
    """Returns the choices of a file by their keys.

    Raises:
      InvalidArgumentError: there is no such file, or it is not one of this version.
    """
    try:
        state = os.stat(name)
    except (OSError, TypeError, ValueError) as error:
        raise invalid("tuning", name, f"a file that tune() has written ({error})") from None
    return _read(os.fspath(name), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=8)
def _read(name: str, *state: int) -> dict[Key, list[dict[str, Any]]]:
    del state  # a file that changes is read again
    from . import __version__

    try:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
        found = (content["format"], content["version"])
        if found != (_FORMAT, __version__):
            raise invalid("tuning", f"{name} of version {found[1]}, format {found[0]}", _AGAIN)
        return {
            Key(**layer["key"]): [_checked(choice) for choice in layer["choices"]]
            for layer in content["layers"]
        }
    except InvalidArgumentError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        raise invalid("tuning", f"{name}, not readable: {kind}: {error}", _AGAIN) from None


def _checked(choice: dict[str, Any]) -> dict[str, Any]:
    """Returns a choice whose numbers are numbers; the library checks that there are kernels."""
    for name in ("tokens", "top_k", "block_size"):
        if type(choice[name]) is not int or choice[name] < 1:
            raise ValueError(f"{name} is {choice[name]!r}")
    for name in ("gate_up", "down"):
        config = choice[name]
        if config is None:
            continue
        if len(config) != _NUMBERS or any(type(number) is not int for number in config):
            raise ValueError(f"{name} is {config!r}")
    return choice


def write(name: str, key: Key, choices: list[dict[str, Any]]) -> None:
    """Adds choices to a file, or makes it; those of the same key and tokens are replaced.

    Raises:
      InvalidArgumentError: there is a file, but not one of this version.
    """
    from . import __version__

    layers = dict(read(name)) if os.path.exists(name) else {}
    new = {(choice["tokens"], choice["top_k"]): choice for choice in choices}
    old = {(choice["tokens"], choice["top_k"]): choice for choice in layers.get(key, [])}
    layers[key] = [choice for _, choice in sorted((old | new).items())]
    content = {
        "format": _FORMAT,
        "version": __version__,
        "layers": [{"key": asdict(each), "choices": found} for each, found in layers.items()],
    }
    folder = os.path.dirname(os.path.abspath(name))
    with tempfile.NamedTemporaryFile(
        "w", dir=folder, encoding="utf-8", suffix=".tmp", delete=False
    ) as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, name)
