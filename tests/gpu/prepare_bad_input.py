"""Calls around the GEMM that must be refused before any launch, with the argument's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prepare_cases import Case
from shim_lib import Status

_BAD_TYPE = "kFE8M0fnu"
# Key of a good case of moe_align() that needs a workspace.
_MANY_IDS = "moe_align many"
# Key of a good case of repack_awq() that needs zero points.
_ZEROS = "repack_awq zeros"
_HUGE = (1 << 20) + 64


@dataclass(frozen=True)
class BadInput:
    """A good case with something changed.

    Attributes:
      case: the good case.
      changes: new values of number fields; for pointer fields None, or an offset in bytes.
      argument: what the message must name.
      status: the status code expected.
    """

    case: Case
    changes: dict[str, Any]
    argument: str
    status: str = "invalid_argument"

    @property
    def name(self) -> str:
        return f"{self.case.function} {self.changes}"

    def spoil(self, args: Any, type_id: Callable[[str], int]) -> None:
        """Changes a good call's struct of arguments; `type_id` tells a scalar type's number."""
        pointers = {*self.case.inputs, *self.case.outputs, "workspace"}
        for name, value in self.changes.items():
            number = type_id(value) if isinstance(value, str) else value
            if name in pointers and value is not None:
                number = (getattr(args, name) or 0) + value
            setattr(args, name, number)

    def complaints(self, status: Status) -> Iterator[str]:
        """Yields what is wrong with the answer to a spoilt call."""
        if status.name != self.status:
            yield f"{status.name} instead of {self.status}: {status.message}"
        elif f"{self.argument} = " not in status.message:
            yield f"the message does not name {self.argument}: {status.message}"


# What each function must refuse: (field, values, the name in the message if it is not the field's).
_SHAPE: list[tuple[str, list[Any]]] = [
    ("num_experts", [0, -1, 70000]),
    ("n", [0, -64, 32, 100, _HUGE]),
    ("k", [0, -64, 32, 96, _HUGE]),
    ("a_type", [_BAD_TYPE, "kU4"]),
    ("b_type", [_BAD_TYPE, "kFloat16", "kS8"]),
    ("out", [None, 4]),
    ("source_n", [-1, 128]),
    ("source_k", [-1, 128]),
    ("column_parts", [-1, 3]),
]
_REFUSED: dict[str, list[tuple[str, list[Any]]]] = {
    "repack_gptq": [*_SHAPE, ("source_k", [3]), ("qweight", [None, 8]), ("perm", [4])],
    "repack_awq": [*_SHAPE, ("qweight", [None, 8]), ("b_type", ["kFE4M3fn", "kFE2M1f"])],
    "repack_rows": [*_SHAPE, ("source_k", [3]), ("weights", [None, 8])],
    "sort_rows_by_group": [
        ("num_experts", [0, -1, 70000]),
        ("k", [0, -64, 32, 96, _HUGE]),
        ("g_idx", [None, 4]),
        ("perm", [None, 4]),
        ("sorted_g_idx", [None, 4]),
    ],
    "permute_scales": [
        ("num_experts", [0, -1, 70000]),
        ("num_groups", [0, -1]),
        ("n", [0, -64, 32, _HUGE]),
        ("a_type", [_BAD_TYPE]),
        ("b_type", [_BAD_TYPE]),
        ("c_type", [_BAD_TYPE, "kS8"]),
        ("s_type", ["kU4", "kFE8M0fnu", "kBFloat16"]),
        ("group_size", [-2, 1, 48, 256]),
        ("source_n", [-1, 256]),
        ("source_groups", [-1, 4]),
        ("column_parts", [-1, 7]),
        ("columns_per_scale", [-1, _HUGE]),
        ("scales", [None, 2]),
        ("out", [None, 2]),
    ],
    "scale_global_scales": [
        ("num_experts", [0, -1]),
        ("c_type", [_BAD_TYPE]),
        ("global_scales", [None, 2]),
        ("out", [None, 2]),
    ],
    "permute_bias": [
        ("num_experts", [0, -1]),
        ("n", [0, 32, _HUGE]),
        ("source_n", [-1, 128]),
        ("column_parts", [-1, 7]),
        ("bias", [None, 2]),
        ("out", [None, 2]),
    ],
    "permute_zero_points": [
        ("num_experts", [0, -1]),
        ("num_groups", [0, -1]),
        ("n", [0, 32, _HUGE]),
        ("a_type", [_BAD_TYPE]),
        ("source_n", [-8, 4, 128]),
        ("source_groups", [-1, 70]),
        ("column_parts", [-1, 7]),
        ("qzeros", [None, 4]),
        ("out", [None, 4]),
    ],
    "moe_align": [
        ("num_experts", [0, -1, 1025]),
        ("block_size", [0, 4, 12, 100, 264, -8]),
        ("num_ids", [-1, 0x7FFFFFFF]),
        ("topk_ids", [None, 2]),
        ("expert_map", [2]),
        ("sorted_token_ids", [None, 2]),
        ("expert_ids", [None, 2]),
        ("num_tokens_past_padded", [None, 2]),
    ],
    "quantize_activations": [
        ("m", [-1]),
        ("k", [0, 8, 24, _HUGE]),
        ("x_type", ["kS8"]),
        ("out_type", ["kFloat16", "kU4"]),
        ("x_stride", [0, 32, 65]),
        ("x", [None, 2]),
        ("out", [None, 1]),
        ("scales", [None, 2]),
    ],
    "act_and_mul": [
        ("m", [-1]),
        ("n", [0, 4, _HUGE]),
        ("type", ["kS8"]),
        ("activation", [-1, 4]),
        ("alpha", [-1.0, float("inf"), float("nan")]),
        ("limit", [-7.0, float("inf"), float("nan")]),
        ("x", [None, 2]),
        ("out", [None, 2]),
    ],
    "topk_sum": [
        ("m", [-1]),
        ("n", [0, 4, _HUGE]),
        ("top_k", [0, -1]),
        ("type", ["kS8"]),
        ("num_experts", [0]),
        ("topk_ids", [2]),
        ("expert_map", [2]),
        ("x", [None, 2]),
        ("out", [None, 2]),
    ],
}

# Text that the good case of each function has in its name.
_GOOD = {
    "repack_gptq": "1x64x64 perm",
    "repack_awq": "1x64x64",
    "repack_rows": "1x64x64",
    "permute_bias": "permute_bias 1x64",
    "permute_zero_points": "permute_zero_points Float16 1x1x64",
    "permute_scales": "Float16 U4B8 Float16 g128 2x3x192",
    "moe_align": "31 ids 3 experts block 8 even map",
    "quantize_activations": "Float16 S8 3x64",
    "act_and_mul": "swigluoai Float16 5x64",
    "topk_sum": "Float16 5x2x64 remote",
}


def keep_good(case: Case, good: dict[str, Case]) -> None:
    """Keeps a case in `good`, by function, if it is the one to be spoilt."""
    if _GOOD.get(case.function, "") in case.name:
        good.setdefault(case.function, case)
    if case.name.startswith("repack_awq FE4M3fn U4 zeros 1x64x64"):
        good.setdefault(_ZEROS, case)
    if case.function == "moe_align" and case.fields["num_ids"] == 5000:
        good.setdefault(_MANY_IDS, case)


def all_bad_input(good: dict[str, Case]) -> Iterator[BadInput]:
    """Yields every call that must be refused, made from what keep_good() kept."""
    for function, refused in _REFUSED.items():
        for name, values in refused:
            for value in values:
                yield BadInput(good[function], {name: value}, name)
    yield from _combinations(good)
    for changes in ({"qzeros": None}, {"qzeros": 4}, {"num_groups": 0}, {"num_groups": 3}):
        yield BadInput(good[_ZEROS], changes, next(iter(changes)))
    many_ids = good[_MANY_IDS]
    yield BadInput(many_ids, {"workspace": None}, "workspace")
    yield BadInput(many_ids, {"workspace": 2}, "workspace")
    yield BadInput(many_ids, {"workspace_bytes": 7}, "workspace_bytes", "insufficient_workspace")


def _combinations(good: dict[str, Case]) -> Iterator[BadInput]:
    """Arguments that are allowed each, but not together."""
    for a_type, b_type in [
        ("kS8", "kU8B128"),
        ("kS8", "kFE2M1f"),
        ("kS8", "kFE4M3fn"),
        ("kFE4M3fn", "kU8B128"),
    ]:
        for function in ("repack_gptq", "repack_awq", "repack_rows"):
            yield BadInput(good[function], {"a_type": a_type, "b_type": b_type}, "b_type")
    for function in ("repack_gptq", "repack_rows"):
        yield BadInput(good[function], {"a_type": "kFE4M3fn", "b_type": "kU4"}, "b_type")
        # The rest of a group would not be zeros without its zero point.
        yield BadInput(good[function], {"b_type": "kU4", "source_k": 32}, "source_k")
    yield BadInput(good["repack_awq"], {"source_n": 36}, "source_n")
    yield BadInput(good["repack_awq"], {"b_type": "kU4", "source_k": 32}, "qzeros")
    scales = good["permute_scales"]
    yield BadInput(scales, {"group_size": -1}, "num_groups")
    yield BadInput(scales, {"a_type": "kS8"}, "global_scales")
    yield BadInput(scales, {"b_type": "kFE2M1f"}, "s_type")
    exponents = {"b_type": "kFE4M3fn", "s_type": "kFE8M0fnu", "float32_scales": 1}
    yield BadInput(scales, exponents, "float32_scales")
    yield BadInput(scales, {"c_type": "kBFloat16"}, "s_type")
    yield BadInput(
        scales, {"b_type": "kFE2M1f", "s_type": "kFE4M3fn", "a_type": "kFE4M3fn"}, "a_type"
    )
    yield BadInput(scales, {"b_type": "kFE2M1f", "s_type": "kFE8M0fnu", "a_type": "kS8"}, "a_type")
    yield BadInput(good["topk_sum"], {"topk_ids": None}, "expert_map")
