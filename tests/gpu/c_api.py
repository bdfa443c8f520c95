"""ctypes binding of libmarlin_moe.so, made from its header marlin_moe.h.

The structs, the types and the functions are read from the header, which is the only definition: the
library refuses a struct whose size is not its own.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

_STRUCT = re.compile(r"^typedef struct \w+ \{\n(.*?)^\} (\w+);", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  ((?:const )?\w+\*?) (\w+);$", re.MULTILINE)
_ENUMERATOR = re.compile(r"^  MARLIN_MOE_(\w+) = (\d+)", re.MULTILINE)
_FUNCTION = re.compile(r"^(int|int32_t|const char\*) (marlin_moe_\w+)\(", re.MULTILINE)
_NUMBERS: dict[str, Any] = {
    "float": ctypes.c_float,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
}
_STATUSES = ("OK", "INVALID_ARGUMENT", "INSUFFICIENT_WORKSPACE", "NO_KERNEL", "CUDA_ERROR")


def _struct(name: str, body: str) -> type[ctypes.Structure]:
    fields = [(field, _field_type(kind)) for kind, field in _FIELD.findall(body)]
    if len(fields) != body.count(";"):
        raise ValueError(f"{name}: {body.count(';')} fields, {len(fields)} understood")
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def _field_type(kind: str) -> Any:
    return ctypes.c_void_p if "*" in kind else _NUMBERS[kind]


class CApi:
    """The library's functions, and what the header says of them.

    Attributes:
      structs: struct types by name, without `marlin_moe_`.
      functions: names of all functions, likewise.
      types: numbers of the scalar types, by the name without `MARLIN_MOE_`.
    """

    def __init__(self, library: str, header: str) -> None:
        """Loads the library; raises OSError if it cannot be loaded."""
        text = Path(header).read_text(encoding="utf-8")
        self.structs = {
            name.removeprefix("marlin_moe_"): _struct(name, body)
            for body, name in _STRUCT.findall(text)
        }
        numbers = {name: int(number) for name, number in _ENUMERATOR.findall(text)}
        self._statuses = {numbers.pop(name): name.lower() for name in _STATUSES}
        self.types = numbers
        results = _FUNCTION.findall(text)
        self.functions = [name.removeprefix("marlin_moe_") for _, name in results]
        self._library = ctypes.CDLL(library)
        self._library.marlin_moe_last_error.restype = ctypes.c_char_p

    def arguments(self, function: str, fields: dict[str, Any]) -> Any:
        """Makes the struct of a function; scalar types may be given by name."""
        struct = self.structs[f"{function}_args"]
        values = {
            name: self.types[value] if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return struct(**{"struct_size": ctypes.sizeof(struct), **values})

    def call(self, function: str, *arguments: Any) -> tuple[str, str]:
        """Calls a function; returns the status's name and the last error.

        Structs and numbers that are results are passed by reference, None is a null pointer.
        """
        passed = [ctypes.byref(a) if a is not None else None for a in arguments]
        code = getattr(self._library, f"marlin_moe_{function}")(*passed)
        return self._statuses[code], self.last_error()

    def block_size(self, m: int, num_experts: int, top_k: int, a_type: int) -> int:
        return int(self._library.marlin_moe_gemm_block_size(m, num_experts, top_k, a_type))

    def last_error(self) -> str:
        return str(self._library.marlin_moe_last_error().decode())
