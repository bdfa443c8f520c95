"""The cases of the GPU test of everything around the GEMM: inputs, and the outputs they must give.

A case is one call. Its expected outputs are compared bit by bit; what lies behind them in the
output buffers must be left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import prepare_reference as reference
import prepare_slow_reference as slow

# What a check makes of the outputs: a complaint, or "".
Verify = Callable[[dict[str, np.ndarray]], str]


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
      name: for the report.
      function: the C++ function.
      fields: numbers, and scalar types by name.
      inputs: arrays for pointer fields.
      outputs: expected arrays for pointer fields, compared exactly up to their length.
      sizes: bytes of output buffers that are larger than what is expected in them.
      verify: a further check of the outputs, as arrays of the expected types.
      inexact: the outputs that only `verify` looks at; it gets the whole buffer.
    """

    name: str
    function: str
    fields: dict[str, Any]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    sizes: dict[str, int] = field(default_factory=dict)
    verify: Verify | None = None
    inexact: tuple[str, ...] = ()


_A_TYPES_8 = ("kS8", "kFE4M3fn")


def _rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _weights(seed: int, experts: int, k: int, n: int, bits: int) -> np.ndarray:
    return _rng(seed).integers(0, 1 << bits, size=(experts, k, n), dtype=np.uint8)


def _verify_lanes(q: np.ndarray, bits: int, eight_bit_a: bool) -> Verify:
    """Checks repacked weights the slow way: what each lane reads."""

    def verify(outputs: dict[str, np.ndarray]) -> str:
        experts, k, n = q.shape
        words = outputs["out"].reshape(experts, -1)
        for expert in range(experts):
            read = slow.weights_read_by_lanes(words[expert], k, n, bits, eight_bit_a)
            if not np.array_equal(read, q[expert]):
                return f"expert {expert}: lanes read other weights"
        return ""

    return verify


# (experts, k, n): small ones are checked by loops too; the others have blocks that are not full.
_SMALL_WEIGHTS = [(1, 64, 64), (3, 192, 128)]
_LARGE_WEIGHTS = [(5, 704, 320), (8, 1024, 1536), (2, 2880, 2880)]


def _weight_cases(
    function: str,
    types: list[tuple[str, str]],
    make: Callable[[np.ndarray, int], dict[str, np.ndarray]],
) -> Iterator[Case]:
    for index, (a_type, b_type) in enumerate(types):
        bits = 8 if b_type in ("kU8B128", "kFE4M3fn") else 4
        eight_bit_a = a_type in _A_TYPES_8
        for experts, k, n in _SMALL_WEIGHTS + (_LARGE_WEIGHTS if index < 4 else _LARGE_WEIGHTS[:1]):
            q = _weights(k + n + index, experts, k, n, bits)
            encoded = q
            if a_type == "kFE4M3fn" and b_type == "kU4B8":
                encoded = reference.fp8_nibbles(q, 8)
            yield Case(
                f"{function} {a_type[1:]} {b_type[1:]} {experts}x{k}x{n}",
                function,
                {"num_experts": experts, "n": n, "k": k, "a_type": a_type, "b_type": b_type},
                make(q, bits),
                {"out": reference.marlin_weights(encoded, bits, eight_bit_a)},
                verify=_verify_lanes(encoded, bits, eight_bit_a) if k * n <= 192 * 128 else None,
            )


_ALL_TYPES = [
    ("kFloat16", "kU4B8"),
    ("kBFloat16", "kU8B128"),
    ("kS8", "kU4B8"),
    ("kFE4M3fn", "kU4B8"),
    ("kFloat16", "kFE4M3fn"),
    ("kBFloat16", "kFE2M1f"),
    ("kFE4M3fn", "kFE2M1f"),
    ("kBFloat16", "kU4"),
    ("kS8", "kU4"),
    ("kFE4M3fn", "kFE4M3fn"),
]


def repack_gptq_cases() -> Iterator[Case]:
    make = lambda q, bits: {"qweight": reference.gptq_weights(q, bits)}  # noqa: E731
    yield from _weight_cases("repack_gptq", _ALL_TYPES, make)
    for case in list(_weight_cases("repack_gptq", _ALL_TYPES[:2], make))[:8]:
        yield _with_perm(case)


def _with_perm(case: Case) -> Case:
    """The case with its rows sorted by an act-order's group index."""
    experts, k, n = (case.fields[name] for name in ("num_experts", "k", "n"))
    bits = 8 if case.fields["b_type"] == "kU8B128" else 4
    q = _weights(k, experts, k, n, bits)
    groups = _rng(n).permuted(np.tile(np.arange(k) // 32, (experts, 1)), axis=1)
    perm = np.argsort(groups, axis=1, kind="stable").astype(np.int32)
    inputs = {"qweight": reference.gptq_weights(q, bits), "perm": perm}
    sorted_rows = reference.take_rows(q, perm)
    out = reference.marlin_weights(sorted_rows, bits, False)
    verify = _verify_lanes(sorted_rows, bits, False) if case.verify else None
    return replace(
        case, name=f"{case.name} perm", inputs=inputs, outputs={"out": out}, verify=verify
    )


def sort_rows_cases() -> Iterator[Case]:
    for experts, k in [(1, 64), (3, 192), (8, 1024), (5, 2880), (256, 512), (2, 14336)]:
        rng = _rng(experts, k)
        in_order = np.tile(np.arange(k) // 64, (experts, 1))
        kinds = {
            "shuffled": rng.permuted(in_order, axis=1),
            "in order": in_order,
            "backwards": in_order[:, ::-1],
            "one group": np.zeros_like(in_order),
            "any numbers": rng.integers(-(2**31), 2**31, (experts, k)) >> rng.integers(0, 31),
        }
        for label, groups in kinds.items():
            g_idx = np.ascontiguousarray(groups).astype(np.int32)
            perm = np.argsort(g_idx, axis=1, kind="stable").astype(np.int32)
            yield Case(
                f"sort_rows_by_group {experts}x{k} {label}",
                "sort_rows_by_group",
                {"num_experts": experts, "k": k},
                {"g_idx": g_idx},
                {"perm": perm, "sorted_g_idx": np.take_along_axis(g_idx, perm, axis=1)},
            )


def repack_awq_cases() -> Iterator[Case]:
    types = [("kFloat16", "kU4"), ("kBFloat16", "kU8B128"), ("kS8", "kU4"), ("kFE4M3fn", "kU4B8")]
    make = lambda q, bits: {"qweight": reference.awq_columns(q, bits)}  # noqa: E731
    yield from _weight_cases("repack_awq", types, make)
    for experts, k, n in _SMALL_WEIGHTS + _LARGE_WEIGHTS[:2]:
        groups = k // 32
        q = _weights(k * 3, experts, k, n, 4)
        zeros = _weights(k * 5, experts, groups, n, 4)
        encoded = reference.fp8_nibbles(q, np.repeat(zeros, 32, axis=1))
        yield Case(
            f"repack_awq FE4M3fn U4 zeros {experts}x{k}x{n}",
            "repack_awq",
            {
                "num_experts": experts,
                "n": n,
                "k": k,
                "a_type": "kFE4M3fn",
                "b_type": "kU4",
                "num_groups": groups,
            },
            {
                "qweight": reference.awq_columns(q, 4),
                "qzeros": reference.awq_columns(zeros, 4),
            },
            {"out": reference.marlin_weights(encoded, 4, True)},
            verify=_verify_lanes(encoded, 4, True) if k * n <= 192 * 128 else None,
        )


def repack_rows_cases() -> Iterator[Case]:
    make = lambda q, bits: {"weights": reference.row_bytes(q, bits)}  # noqa: E731
    yield from _weight_cases("repack_rows", _ALL_TYPES, make)


@dataclass(frozen=True)
class _Padding:
    """A source and the larger result: rows, columns, and the parts that columns come in."""

    experts: int
    source_k: int
    source_n: int
    k: int
    n: int
    parts: int = 1

    def pad(self, values: np.ndarray, rows: int, fill: int = 0) -> np.ndarray:
        """Pads [E, any rows, source_n] to [E, rows, n]."""
        experts, source_rows, source_n = values.shape
        split = values.reshape(experts, source_rows, self.parts, source_n // self.parts)
        shape = (experts, rows, self.parts, self.n // self.parts)
        out = np.full(shape, fill, values.dtype)
        out[:, :source_rows, :, : source_n // self.parts] = split
        return out.reshape(experts, rows, self.n)

    @property
    def fields(self) -> dict[str, int]:
        """The fields of all functions with columns."""
        sizes = {"num_experts": self.experts, "n": self.n, "source_n": self.source_n}
        return sizes | ({"column_parts": self.parts} if self.parts > 1 else {})

    @property
    def label(self) -> str:
        return f"{self.source_k}x{self.source_n} in {self.k}x{self.n}/{self.parts}"


# Shards of real layers among them, of which gpt-oss and Qwen3-30B have these: 1440 and 96 rows.
_PADDINGS = [
    _Padding(2, 96, 72, 128, 128),
    _Padding(3, 40, 96, 128, 128, 2),
    _Padding(1, 1440, 192, 1472, 256, 2),
    _Padding(2, 128, 2880, 128, 2944, 2),
]


def padded_cases() -> Iterator[Case]:
    """Sources smaller than their results: what is padded first gives the same bytes."""
    for padding in _PADDINGS:
        for a_type, b_type in _ALL_TYPES:
            if b_type == "kU4" and padding.source_k < padding.k:
                continue  # of AWQ only
            yield from _padded_weights(padding, a_type, b_type)
        for a_type in ("kFloat16", "kS8", "kFE4M3fn"):
            yield _padded_awq(padding, a_type)
        yield from _padded_columns(padding)


def _padded_weights(padding: _Padding, a_type: str, b_type: str) -> Iterator[Case]:
    bits = 8 if b_type in ("kU8B128", "kFE4M3fn") else 4
    q = _weights(padding.k, padding.experts, padding.source_k, padding.source_n, bits)
    zero = {"kU4B8": 8, "kU8B128": 128}.get(b_type, 0)
    padded = padding.pad(q, padding.k, zero)
    if a_type == "kFE4M3fn" and b_type == "kU4B8":
        padded = reference.fp8_nibbles(padded, 8)
    out = reference.marlin_weights(padded, bits, a_type in _A_TYPES_8)
    fields = {**padding.fields, "k": padding.k, "source_k": padding.source_k}
    fields |= {"a_type": a_type, "b_type": b_type}
    sources = {
        "repack_gptq": {"qweight": reference.gptq_weights(q, bits)},
        "repack_rows": {"weights": reference.row_bytes(q, bits)},
    }
    if b_type in ("kU4B8", "kU8B128"):
        sources["repack_awq"] = {"qweight": reference.awq_columns(q, bits)}
    for function, inputs in sources.items():
        name = f"{function} padded {a_type[1:]} {b_type[1:]} {padding.label}"
        yield Case(name, function, fields, inputs, {"out": out})


def _padded_awq(padding: _Padding, a_type: str) -> Case:
    """Weights with zero points: rows of padding in a group of the source take its zero points."""
    group, groups = 32, padding.k // 32
    source_groups = -(-padding.source_k // group)
    q = _weights(padding.k * 3, padding.experts, padding.source_k, padding.source_n, 4)
    zeros = _weights(padding.k * 5, padding.experts, source_groups, padding.source_n, 4)
    all_zeros = np.repeat(padding.pad(zeros, groups), group, axis=1)
    padded = padding.pad(q, padding.k)
    padded[:, padding.source_k :] = all_zeros[:, padding.source_k :]
    if a_type == "kFE4M3fn":
        padded = reference.fp8_nibbles(padded, all_zeros)
    return Case(
        f"repack_awq padded {a_type[1:]} U4 {padding.label}",
        "repack_awq",
        {
            **padding.fields,
            "k": padding.k,
            "source_k": padding.source_k,
            "a_type": a_type,
            "b_type": "kU4",
            "num_groups": groups,
        },
        {"qweight": reference.awq_columns(q, 4), "qzeros": reference.awq_columns(zeros, 4)},
        {"out": reference.marlin_weights(padded, 4, a_type in _A_TYPES_8)},
    )


def _padded_columns(padding: _Padding) -> Iterator[Case]:
    """Scales of all kinds, zero points and bias."""
    groups, source_groups = padding.k // 32, -(-padding.source_k // 32)
    shape = (padding.experts, source_groups, padding.source_n)
    fields = {**padding.fields, "num_groups": groups, "source_groups": source_groups}
    halves = _half_scales(padding.k, shape, False)
    codes = _rng(padding.n).integers(0, 128, shape, dtype=np.uint8)
    padded_codes = padding.pad(codes, groups)
    padded_halves = padding.pad(halves, groups)
    multiples, units = reference.fixed_point_scales(padded_halves, False)
    permute = reference.permute_columns
    # (a_type, b_type, s_type, the source, the result)
    kinds: list[tuple[str, str, str, np.ndarray, np.ndarray]] = [
        ("kFloat16", "kU4B8", "kFloat16", halves, permute(padded_halves, channel=False)),
        ("kS8", "kU4B8", "kFloat16", halves, permute(multiples.view(np.uint16), channel=True)),
        ("kFloat16", "kFE2M1f", "kFE4M3fn", codes, reference.nvfp4_scales(padded_codes)),
        ("kFE4M3fn", "kFE2M1f", "kFE8M0fnu", codes, reference.exponent_scales(padded_codes, True)),
    ]
    for a_type, b_type, s_type, source, out in kinds:
        types = {"a_type": a_type, "b_type": b_type, "c_type": "kFloat16", "s_type": s_type}
        for columns_first in (0, 1):
            order = (0, 2, 1) if columns_first else (0, 1, 2)
            case = Case(
                f"permute_scales padded {a_type[1:]} {s_type[1:]} {columns_first} {padding.label}",
                "permute_scales",
                {**fields, **types, "group_size": 32, "columns_first": columns_first},
                {"scales": np.ascontiguousarray(source.transpose(order))},
                {"out": out},
            )
            extra = {"global_scales": units} if a_type == "kS8" else {}
            yield replace(case, outputs={**case.outputs, **extra})
    bias = _half_scales(padding.n, (padding.experts, 1, padding.source_n), True)
    yield Case(
        f"permute_bias padded {padding.label}",
        "permute_bias",
        padding.fields,
        {"bias": bias},
        {"out": permute(padding.pad(bias, 1), channel=True)},
    )
    zeros = _weights(padding.n, padding.experts, source_groups, padding.source_n, 4)
    for a_type in ("kFloat16", "kS8"):
        yield Case(
            f"permute_zero_points padded {a_type[1:]} {padding.label}",
            "permute_zero_points",
            {**fields, "a_type": a_type},
            {"qzeros": reference.awq_columns(zeros, 4)},
            {"out": reference.marlin_zero_points(padding.pad(zeros, groups), a_type == "kS8")},
        )


# What blocks of 128 x 128 fill: layers of whole blocks, ones with smaller last blocks, and gate and
# up, of which each has its own. The last is a gate and up of DeepSeek-V3.
_BLOCKED = [
    _Padding(2, 256, 384, 256, 384),
    _Padding(2, 320, 192, 384, 192),
    _Padding(3, 200, 192, 256, 256, 2),
    _Padding(1, 7168, 4096, 7168, 4096, 2),
]


def block_scale_cases() -> Iterator[Case]:
    """One scale for several columns, float32 ones among them."""
    # (a_type, c_type, whether the source is float32, power of two)
    kinds = [
        ("kFE4M3fn", "kBFloat16", True, 0),
        ("kFE4M3fn", "kFloat16", True, 0),
        ("kFE4M3fn", "kBFloat16", False, 0),
        ("kBFloat16", "kBFloat16", True, 120),
        ("kBFloat16", "kBFloat16", False, 120),
        ("kFloat16", "kFloat16", True, 8),
    ]
    for blocked in _BLOCKED:
        for kind in kinds:
            yield from _block_cases(blocked, *kind)
        yield from _block_cases_beside_int8(blocked)
        yield _matrix_scale_case(blocked)
        yield _exponent_block_case(blocked)


def _blocks(blocked: _Padding, columns: int, groups: int) -> np.ndarray:
    """Float32 scales [E, groups, scales in a row], far apart."""
    in_row = blocked.parts * -(-blocked.source_n // blocked.parts // columns)
    shape = (blocked.experts, groups, in_row)
    rng = _rng(blocked.source_k, columns)
    return (rng.random(shape) * 2.0 ** rng.integers(-30, 4, shape)).astype(np.float32)


# Numbers that are none, and those at the ends of the ranges of float16 and bfloat16.
_SPECIAL = np.array(
    [np.nan, np.inf, 65504, 65519.996, 65520, 3.3895e38, 3.4e38, 2.0**-24, 2.0**-26, 1e-40, 0, -1],
    np.float32,
)


def _blocked_case(
    name: str, blocked: _Padding, columns: int, scales: np.ndarray, fields: dict[str, Any]
) -> Case:
    sizes = {**blocked.fields, "source_groups": scales.shape[1], "columns_per_scale": columns}
    label = f"permute_scales {columns} columns {name} {blocked.label}"
    return Case(label, "permute_scales", sizes | fields, {"scales": scales}, {})


def _expanded(blocked: _Padding, columns: int, scales: np.ndarray, groups: int) -> np.ndarray:
    expanded = reference.expand_blocks(scales, blocked.source_n, blocked.parts, columns)
    return blocked.pad(expanded, groups)


def _block_cases(
    blocked: _Padding, a_type: str, c_type: str, float32: bool, power: int
) -> Iterator[Case]:
    bfloat16 = c_type == "kBFloat16"
    groups = blocked.k // 128
    for columns in (128, 32):
        values = _blocks(blocked, columns, -(-blocked.source_k // 128))
        values.reshape(-1)[: len(_SPECIAL)] = _SPECIAL[: values.size]
        rounded = reference.half_bits(values, bfloat16)
        source = values if float32 else rounded
        exact = values if float32 else reference.half_values(rounded, bfloat16)
        changed = reference.scaled_bits(exact, power, bfloat16)
        out = reference.permute_columns(
            _expanded(blocked, columns, changed, groups), channel=a_type in _A_TYPES_8
        )
        types = {"a_type": a_type, "b_type": "kFE4M3fn", "c_type": c_type, "s_type": c_type}
        fields = {**types, "group_size": 128, "num_groups": groups, "float32_scales": int(float32)}
        for columns_first in (0, 1):
            order = (0, 2, 1) if columns_first else (0, 1, 2)
            case = _blocked_case(
                f"{a_type[1:]} {c_type[1:]} {'float32' * float32} {columns_first}",
                blocked,
                columns,
                np.ascontiguousarray(source.transpose(order)),
                fields | {"columns_first": columns_first, "source_groups": values.shape[1]},
            )
            yield replace(case, outputs={"out": out if bfloat16 else out.view(np.float16)})


def _block_cases_beside_int8(blocked: _Padding) -> Iterator[Case]:
    """Fixed-point scales of float32 ones."""
    groups = blocked.k // 64
    values = _blocks(blocked, 32, -(-blocked.source_k // 64))
    multiples, units = reference.fixed_point_multiples(values)
    padded = _expanded(blocked, 32, multiples.view(np.uint16), groups)
    types = {"a_type": "kS8", "b_type": "kU4B8", "c_type": "kFloat16", "s_type": "kFloat16"}
    fields = {**types, "group_size": 64, "num_groups": groups, "float32_scales": 1}
    case = _blocked_case("S8 float32", blocked, 32, values, fields)
    out = reference.permute_columns(padded, channel=True)
    yield replace(case, outputs={"out": out, "global_scales": units})


def _matrix_scale_case(blocked: _Padding) -> Case:
    """One scale for each of the matrices that are side by side."""
    columns = blocked.source_n // blocked.parts
    values = _blocks(blocked, columns, 1)
    padded = _expanded(blocked, columns, reference.scaled_bits(values, 120, True), 1)
    types = {"a_type": "kBFloat16", "b_type": "kFE4M3fn"}
    types |= {"c_type": "kBFloat16", "s_type": "kBFloat16"}
    fields = {**types, "group_size": -1, "num_groups": 1, "float32_scales": 1}
    case = _blocked_case("a matrix", blocked, columns, values, fields)
    return replace(case, outputs={"out": reference.permute_columns(padded, channel=True)})


def _exponent_block_case(blocked: _Padding) -> Case:
    """Scales of a byte."""
    groups = blocked.k // 32
    shape = _blocks(blocked, 128, -(-blocked.source_k // 32)).shape
    codes = _rng(blocked.k).integers(0, 256, shape, dtype=np.uint8)
    padded = _expanded(blocked, 128, codes, groups)
    types = {"a_type": "kFE4M3fn", "b_type": "kFE4M3fn"}
    types |= {"c_type": "kBFloat16", "s_type": "kFE8M0fnu"}
    fields = {**types, "group_size": 32, "num_groups": groups}
    case = _blocked_case("FE8M0fnu", blocked, 128, codes, fields)
    return replace(case, outputs={"out": reference.exponent_scales(padded, True, "kFE4M3fn")})


def _half_scales(seed: int, shape: tuple[int, ...], bfloat16: bool) -> np.ndarray:
    """Positive scales, subnormal ones among them, as 16-bit patterns."""
    values = _rng(seed).random(shape) * 2.0 ** _rng(seed, 1).integers(-20, 4, shape)
    return reference.half_bits(values.astype(np.float32), bfloat16)


def _verify_columns(source: np.ndarray, channel: bool) -> Verify:
    """Checks permuted columns position by position, in the first row."""

    def verify(outputs: dict[str, np.ndarray]) -> str:
        out = outputs["out"].reshape(source.shape)
        for position in range(source.shape[-1]):
            if out[0, 0, position] != source[0, 0, slow.column_of(position, channel)]:
                return f"position {position} holds another column"
        return ""

    return verify


_SCALE_SHAPES = [(1, 1, 64), (2, 3, 192), (3, 33, 256), (8, 64, 1536)]


def _fixed_point_cases() -> Iterator[Case]:
    for c_type, group_size in [("kFloat16", 64), ("kBFloat16", 128)]:
        bfloat16 = c_type == "kBFloat16"
        for experts, groups, n in _SCALE_SHAPES:
            scales = _half_scales(n, (experts, groups, n), bfloat16)
            if (experts, n) == (2, 192):
                scales[:] = 0
            if groups == 1:  # a scale per channel, which stays what it is
                multiples, units = scales, np.ones(experts, np.float32)
            else:
                if experts > 1:  # far apart, and one that is not a number
                    scales[1:] = reference.scale_bits(scales[1:], -12, bfloat16)
                if experts == 8:
                    scales[5, 3, 7] = 0x7FC0 if bfloat16 else 0x7C00
                multiples, units = reference.fixed_point_scales(scales, bfloat16)
            types = {"a_type": "kS8", "b_type": "kU4B8", "c_type": c_type, "s_type": c_type}
            out = reference.permute_columns(multiples.view(np.uint16), channel=True)
            for case in _scale_cases(f"S8 {c_type[1:]}", types, group_size, scales, out, None):
                yield replace(case, outputs={**case.outputs, "global_scales": units})


def permute_scales_cases() -> Iterator[Case]:
    yield from _fixed_point_cases()
    yield from _half_scale_cases()
    yield from _byte_scale_cases()


def _half_scale_cases() -> Iterator[Case]:
    # (a_type, b_type, c_type, group_size, power of two)
    kinds = [
        ("kFloat16", "kU4B8", "kFloat16", 128, 0),
        ("kBFloat16", "kU4", "kBFloat16", 32, 0),
        ("kFloat16", "kU8B128", "kFloat16", 0, 0),
        ("kBFloat16", "kU8B128", "kBFloat16", -1, 0),
        ("kS8", "kU4", "kBFloat16", -1, 0),
        ("kFE4M3fn", "kU4B8", "kFloat16", 128, 9),
        ("kFE4M3fn", "kU4", "kBFloat16", -1, 9),
        ("kFloat16", "kFE4M3fn", "kFloat16", -1, 8),
        ("kBFloat16", "kFE4M3fn", "kBFloat16", 128, 120),
        ("kFE4M3fn", "kFE4M3fn", "kBFloat16", 128, 0),
        ("kFE4M3fn", "kFE4M3fn", "kFloat16", -1, 0),
        ("kBFloat16", "kU4B8", "kBFloat16", 128, 0),
    ]
    for index, (a_type, b_type, c_type, group_size, power) in enumerate(kinds):
        bfloat16 = c_type == "kBFloat16"
        for experts, groups, n in _SCALE_SHAPES:
            groups = 1 if group_size == -1 else groups
            channel = groups == 1 or a_type in _A_TYPES_8
            scales = _half_scales(index, (experts, groups, n), bfloat16)
            changed = reference.scale_bits(scales, power, bfloat16)
            yield from _scale_cases(
                f"{a_type[1:]} {b_type[1:]} {c_type[1:]} g{group_size}",
                {"a_type": a_type, "b_type": b_type, "c_type": c_type, "s_type": c_type},
                group_size,
                scales,
                reference.permute_columns(changed, channel),
                _verify_columns(changed, channel),
            )


def _byte_scale_cases() -> Iterator[Case]:
    for a_type, b_type, s_type, group_size in [
        ("kFloat16", "kFE2M1f", "kFE4M3fn", 16),
        ("kBFloat16", "kFE2M1f", "kFE4M3fn", 16),
        ("kBFloat16", "kFE2M1f", "kFE8M0fnu", 32),
        ("kFE4M3fn", "kFE2M1f", "kFE8M0fnu", 32),
        ("kFE4M3fn", "kFE4M3fn", "kFE8M0fnu", 32),
    ]:
        for experts, groups, n in [(1, 2, 64), *_SCALE_SHAPES[1:]]:
            nvfp4 = s_type == "kFE4M3fn"
            limit = 128 if nvfp4 else 256
            scales = _rng(n, groups).integers(0, limit, (experts, groups, n), dtype=np.uint8)
            if nvfp4:
                out = reference.nvfp4_scales(scales)
            else:
                out = reference.exponent_scales(scales, a_type in _A_TYPES_8, b_type)
            c_type = "kFloat16" if a_type == "kFloat16" else "kBFloat16"
            yield from _scale_cases(
                f"{a_type[1:]} {b_type[1:]} {s_type[1:]}",
                {"a_type": a_type, "b_type": b_type, "c_type": c_type, "s_type": s_type},
                group_size,
                scales,
                out,
                None,
            )


def _scale_cases(
    name: str,
    types: dict[str, str],
    group_size: int,
    scales: np.ndarray,
    out: np.ndarray,
    verify: Verify | None,
) -> Iterator[Case]:
    """The case with both orders of the source."""
    experts, groups, n = scales.shape
    shape = {"num_experts": experts, "num_groups": groups, "n": n, "group_size": group_size}
    for columns_first in (0, 1):
        source = np.ascontiguousarray(scales.transpose(0, 2, 1)) if columns_first else scales
        yield Case(
            f"permute_scales {name} {experts}x{groups}x{n}{' columns first' * columns_first}",
            "permute_scales",
            {**types, **shape, "columns_first": columns_first},
            {"scales": source},
            {"out": out},
            verify=verify,
        )


def other_permutation_cases() -> Iterator[Case]:
    for experts, groups, n in _SCALE_SHAPES:
        bias = _half_scales(n, (experts, 1, n), True)
        yield Case(
            f"permute_bias {experts}x{n}",
            "permute_bias",
            {"num_experts": experts, "n": n},
            {"bias": bias},
            {"out": reference.permute_columns(bias, channel=True)},
            verify=_verify_columns(bias, channel=True),
        )
        zeros = _weights(n, experts, groups, n, 4)
        for a_type in ("kFloat16", "kS8", "kFE4M3fn"):
            eight_bit_a = a_type in _A_TYPES_8
            yield Case(
                f"permute_zero_points {a_type[1:]} {experts}x{groups}x{n}",
                "permute_zero_points",
                {"num_experts": experts, "num_groups": groups, "n": n, "a_type": a_type},
                {"qzeros": reference.awq_columns(zeros, 4)},
                {"out": reference.marlin_zero_points(zeros, eight_bit_a)},
                verify=_verify_zero_points(zeros, eight_bit_a),
            )
    for experts, c_type, power in [(1, "kFloat16", 7), (300, "kBFloat16", 119)]:
        scales = (_rng(experts).random(experts) * 1e-3).astype(np.float32)
        yield Case(
            f"scale_global_scales {c_type[1:]} {experts}",
            "scale_global_scales",
            {"num_experts": experts, "c_type": c_type},
            {"global_scales": scales},
            {"out": scales * np.float32(2.0**power)},
        )


def _verify_zero_points(zeros: np.ndarray, eight_bit_a: bool) -> Verify:
    def verify(outputs: dict[str, np.ndarray]) -> str:
        n = zeros.shape[-1]
        words = outputs["out"].reshape(-1, n // 8)
        for row in (0, len(words) - 1):
            read = slow.zero_points_read(words[row], n, eight_bit_a)
            if not np.array_equal(read, zeros.reshape(-1, n)[row]):
                return f"row {row}: lanes read other zero points"
        return ""

    return verify


def quantize_cases() -> Iterator[Case]:
    for x_type in ("kFloat16", "kBFloat16"):
        for out_type in ("kS8", "kFE4M3fn"):
            for m, k, gap in [
                (1, 16, 0),
                (3, 64, 8),
                (17, 2880, 0),
                (64, 7168, 64),
                (700, 1024, 0),
            ]:
                yield _quantize_case(x_type, out_type, m, k, gap)
    yield _quantize_case("kBFloat16", "kS8", 33, 256, 0, 1.7e-6)
    yield Case(
        "quantize_activations m 0",
        "quantize_activations",
        {"m": 0, "k": 64, "x_type": "kFloat16", "out_type": "kS8", "x_stride": 64},
        {},
        {"out": np.zeros(0, np.uint8), "scales": np.zeros(0, np.float32)},
        sizes={"out": 64, "scales": 4},
    )


def _quantize_case(
    x_type: str, out_type: str, m: int, k: int, gap: int, factor: float = 1.0
) -> Case:
    bfloat16 = x_type == "kBFloat16"
    rng = _rng(m, k)
    rows = rng.standard_normal((m, k + gap)) * 2.0 ** rng.integers(-14, 10, (m, 1))
    # Special rows: zeros, the smallest numbers, an infinity, a NaN.
    bits = reference.half_bits(rows.astype(np.float32), bfloat16)
    if m > 16:
        bits[2] = 0
        bits[3] = rng.integers(0, 4, k + gap)
        bits[5, 7] = 0x7F80 if bfloat16 else 0x7C00
        bits[6, 9] = 0x7FC0 if bfloat16 else 0x7E00
        bits[8] |= 0x8000
    values = reference.half_values(bits, bfloat16)[:, :k]
    data, scales = reference.quantise_rows(values, out_type == "kFE4M3fn")
    scales = scales * np.float32(factor)

    def verify(outputs: dict[str, np.ndarray]) -> str:
        found = outputs["scales"].view(np.float32)
        if not np.array_equal(found, scales, equal_nan=True):
            return f"{int((found != scales).sum())} scales differ"
        return ""

    return Case(
        f"quantize_activations {x_type[1:]} {out_type[1:]} {m}x{k}+{gap}",
        "quantize_activations",
        {"m": m, "k": k, "x_type": x_type, "out_type": out_type, "x_stride": k + gap},
        {"x": bits} | ({} if factor == 1 else {"factor": np.array([factor], np.float32)}),
        {"out": data, "scales": np.zeros(0, np.float32)},
        sizes={"scales": 4 * m},
        verify=verify,
        inexact=("scales",),
    )


def elementwise_cases() -> Iterator[Case]:
    for bfloat16 in (False, True):
        type_name = "kBFloat16" if bfloat16 else "kFloat16"
        for activation in reference.ACTIVATIONS:
            for m, n in [(1, 8), (5, 64), (33, 2880), (300, 1408)]:
                values = (_rng(m, n, 1).standard_normal((m, 2 * n)) * 3).astype(np.float32)
                values[-1, :: n // 2 + 1] = np.nan
                bits = reference.half_bits(values, bfloat16)
                yield _act_case(type_name, activation, bits, interleaved=False)
                yield _act_case(type_name, activation, bits, interleaved=True)
        for m, n, top_k in [(1, 8, 1), (5, 64, 2), (33, 2880, 8), (300, 1408, 6)]:
            yield _sum_case(type_name, m, n, top_k, remote=False)
            yield _sum_case(type_name, m, n, top_k, remote=True)


def _act_case(type_name: str, activation: str, bits: np.ndarray, *, interleaved: bool) -> Case:
    bfloat16 = type_name == "kBFloat16"
    parameters = {"alpha": 1.25, "limit": 3.5} if interleaved else {"alpha": 1.702, "limit": 7.0}
    exact = reference.act_and_mul(
        reference.half_values(bits, bfloat16), activation, interleaved=interleaved, **parameters
    )
    nan, tiny = np.isnan(exact), np.abs(exact) < 1e-30
    rounded = reference.half_bits(np.where(nan, 0, exact).astype(np.float32), bfloat16)

    def verify(outputs: dict[str, np.ndarray]) -> str:
        """The device's exp() may be off in float, so that a result in a thousand rounds away.

        Where it overflows, a result is zero that would be next to nothing.
        """
        out = outputs["out"].reshape(rounded.shape)
        values = reference.half_values(out, bfloat16)
        if not np.array_equal(np.isnan(values), nan):
            return "NaN is not where the inputs have it"
        if (np.abs(values[tiny]) > 2e-30).any():
            return "results are not as small as they should be"
        distance = np.abs(out.astype(np.int32) - rounded)[~nan & ~tiny]
        if distance.max() > 1:
            return f"{int((distance > 1).sum())} results are more than a unit off"
        off = int(distance.sum())
        return (
            f"{off} of {distance.size} results are a unit off"
            if off > 2 + distance.size // 500
            else ""
        )

    rows, n = rounded.shape
    return Case(
        f"act_and_mul {activation} {type_name[1:]} {rows}x{n}{' interleaved' * interleaved}",
        "act_and_mul",
        {
            "m": rows,
            "n": n,
            "type": type_name,
            "activation": list(reference.ACTIVATIONS).index(activation),
            "interleaved": int(interleaved),
            **parameters,
        },
        {"x": bits},
        {"out": np.zeros(0, np.uint16)},
        sizes={"out": bits.nbytes // 2},
        verify=verify,
        inexact=("out",),
    )


def _sum_case(type_name: str, m: int, n: int, top_k: int, remote: bool) -> Case:
    bfloat16 = type_name == "kBFloat16"
    rng = _rng(m, n, top_k)
    bits = reference.half_bits(rng.standard_normal((m * top_k, n)).astype(np.float32), bfloat16)
    fields: dict[str, Any] = {"m": m, "n": n, "top_k": top_k, "type": type_name}
    inputs = {"x": bits}
    written = None
    if remote:
        expert_map = np.where(rng.random(12) < 0.5, -1, 3).astype(np.int32)
        topk_ids = rng.integers(-1, 13, m * top_k).astype(np.int32)
        valid = (topk_ids >= 0) & (topk_ids < 12)
        written = valid & (expert_map[np.where(valid, topk_ids, 0)] >= 0)
        bits[~written] = 0x7FA5  # a NaN, as rows that nobody wrote may hold
        fields["num_experts"] = 12
        inputs |= {"topk_ids": topk_ids, "expert_map": expert_map}
    sums = reference.topk_sum(reference.half_values(bits, bfloat16), top_k, written)
    return Case(
        f"topk_sum {type_name[1:]} {m}x{top_k}x{n}{' remote' * remote}",
        "topk_sum",
        fields,
        inputs,
        {"out": reference.half_bits(sums, bfloat16)},
    )


# (ids, experts, block size)
_ALIGN_SHAPES = [
    (0, 8, 16),
    (1, 1, 8),
    (2, 8, 64),
    (31, 3, 8),
    (256, 8, 16),
    (512, 64, 8),
    (1000, 128, 16),
    (1024, 1024, 8),
    (2048, 256, 32),
    (4095, 7, 48),
    (4096, 513, 16),
    (4097, 512, 64),
    (777, 8, 72),
    (4096, 1024, 256),
    (5000, 1, 64),
    (5000, 3, 176),
    (9000, 1024, 256),
    (20000, 1000, 8),
    (32768, 128, 64),
    (131072, 256, 64),
    (600011, 1024, 48),
]


def align_cases(capacity: Callable[[int, int, int], int]) -> Iterator[Case]:
    for num_ids, experts, block_size in _ALIGN_SHAPES:
        rng = _rng(num_ids, experts)
        routings = {"even": rng.integers(0, experts, num_ids)}
        if num_ids and num_ids <= 5000:
            routings["one"] = np.full(num_ids, experts - 1)
            routings["few"] = rng.integers(0, max(1, experts // 3), num_ids) * 2 % experts
            routings["masked"] = rng.integers(-1, experts + 1, num_ids)
        for label, ids in routings.items():
            yield _align_case(ids.astype(np.int32), experts, block_size, label, capacity)
            yield _align_case(ids.astype(np.int32), experts, block_size, label, capacity, "map")
            yield _align_case(ids.astype(np.int32), experts, block_size, label, capacity, "drop")


def _align_case(
    ids: np.ndarray,
    experts: int,
    block_size: int,
    label: str,
    capacity: Callable[[int, int, int], int],
    remote: str = "",
) -> Case:
    expert_map = None
    if remote:
        mine = _rng(experts).random(experts) < 0.5
        expert_map = np.where(mine, np.cumsum(mine) - 1, -1).astype(np.int32)
    expected = reference.align(ids, experts, block_size, expert_map, remote == "drop")
    verify = None
    if len(ids) <= 256:
        verify = _verify_alignment(ids, experts, block_size, expert_map, remote == "drop")
    places = capacity(len(ids), experts, block_size)
    fields = {"num_ids": len(ids), "num_experts": experts, "block_size": block_size}
    return Case(
        f"moe_align {len(ids)} ids {experts} experts block {block_size} {label} {remote}".strip(),
        "moe_align",
        {**fields, "drop_remote": int(remote == "drop")},
        {"topk_ids": ids} | ({} if expert_map is None else {"expert_map": expert_map}),
        {
            "sorted_token_ids": expected.sorted_token_ids,
            "expert_ids": expected.expert_ids,
            "num_tokens_past_padded": np.array([expected.num_tokens_past_padded], np.int32),
        },
        sizes={"sorted_token_ids": 4 * places, "expert_ids": 4 * (places // block_size)},
        verify=verify,
    )


def _verify_alignment(
    ids: np.ndarray, experts: int, block_size: int, expert_map: np.ndarray | None, drop: bool
) -> Verify:
    used_map = None if expert_map is None else expert_map.tolist()
    expected = slow.align(ids.tolist(), experts, block_size, used_map, drop)

    def verify(outputs: dict[str, np.ndarray]) -> str:
        found = (outputs["sorted_token_ids"].tolist(), outputs["expert_ids"].tolist())
        return "" if found == expected else "differs from the loop over experts"

    return verify


def all_cases(capacity: Callable[[int, int, int], int]) -> Iterator[Case]:
    """Yields every case; `capacity` is moe_align_capacity()."""
    yield from repack_gptq_cases()
    yield from repack_awq_cases()
    yield from repack_rows_cases()
    yield from padded_cases()
    yield from sort_rows_cases()
    yield from permute_scales_cases()
    yield from block_scale_cases()
    yield from other_permutation_cases()
    yield from align_cases(capacity)
    yield from quantize_cases()
    yield from elementwise_cases()
