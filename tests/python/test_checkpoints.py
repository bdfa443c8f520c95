"""Checkpoints into weights, in NumPy: what each format's tensors mean, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoint_writers as writers
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from checkpoint_writers import E2M1, Shape, Written
from marlin_moe import ExpertWeights, InvalidArgumentError, prepare, read_experts, weights
from marlin_moe.checkpoints import awq, compressed_tensors, fp8, gptq, mxfp4, nvfp4
from marlin_moe.checkpoints.matrix import Matrix, joined
from marlin_moe.checkpoints.tensors import projections

AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)
SHAPE = Shape(experts=3, k=256, n=128, group=64)
CHANNEL = Shape(experts=2, k=128, n=64, group=-1)


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def unpack(words: np.ndarray, bits: int, axis: int, order: Any = None) -> np.ndarray:
    """Element i of a word is entry order[i] of the axis's next 32 / bits."""
    per_word = 32 // bits
    moved = np.moveaxis(words.view(np.uint32), axis, -1)
    out = np.zeros((*moved.shape, per_word), np.int64)
    for place in range(per_word):
        target = place if order is None else order[place]
        out[..., target] = (moved >> np.uint32(bits * place)) & ((1 << bits) - 1)
    return np.moveaxis(out.reshape(*moved.shape[:-1], -1), -1, axis)


def code_values(codes: np.ndarray, b_type: str) -> np.ndarray:
    if b_type == "kFE2M1f":
        return E2M1[codes]
    if b_type == "kFE4M3fn":
        return codes.astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(float)
    return codes - {"kU4": 0.0, "kU4B8": 8.0, "kU8B128": 128.0}[b_type]


def codes_of(packing: str, packed: np.ndarray, bits: int) -> np.ndarray:
    """[experts, k, n], as prepare.h describes each source."""
    if packing == "gptq":
        return unpack(packed, bits, 1)
    if packing == "awq":
        return unpack(packed, bits, 2, AWQ_COLUMNS)
    if bits == 4:
        packed = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    return packed.swapaxes(1, 2)


def scale_values(scales: np.ndarray, s_type: str | None) -> np.ndarray:
    if s_type == "kFE8M0fnu":
        return np.exp2(scales.astype(float) - 127)
    if s_type == "kFE4M3fn":
        return scales.view(ml_dtypes.float8_e4m3fn).astype(float)
    return scales.astype(float)


def dequantised(matrix: Matrix) -> np.ndarray:
    bits = 8 if matrix.b_type in ("kU8B128", "kFE4M3fn") else 4
    codes = codes_of(matrix.packing, matrix.weights, bits)
    assert codes.shape == (matrix.num_experts, matrix.k, matrix.n)
    scales = scale_values(matrix.scales, matrix.s_type)
    scales = scales.swapaxes(1, 2) if matrix.columns_first else scales
    if matrix.group_size == 0:
        groups = matrix.g_idx
    else:
        rows = matrix.k if matrix.group_size == -1 else matrix.group_size
        groups = np.broadcast_to(np.arange(matrix.k) // rows, codes.shape[:2])
        assert matrix.g_idx is None
    take = groups[:, :, None].astype(int)
    values = code_values(codes, matrix.b_type)
    if matrix.b_type == "kU4":
        values = values - np.take_along_axis(
            unpack(matrix.zero_points, 4, 2, AWQ_COLUMNS), take, axis=1
        )
    else:
        assert matrix.zero_points is None
    result = values * np.take_along_axis(scales, take, axis=1)
    if matrix.global_scales is not None:
        result = result * matrix.global_scales.astype(float)[:, None, None]
    return result


def reader(module: Any, *options: Any) -> Callable[[Any], list[Matrix]]:
    return lambda tensors: module.read(projections(tensors), *options)


def read_packed(written: Written) -> Callable[[Any], list[Matrix]]:
    return reader(compressed_tensors, written.options["weights"], False)


def gptq_case(shape: Shape = SHAPE, **options: Any) -> tuple[Written, Any, str, int]:
    written = writers.gptq(rng(), shape, **options)
    bits, sym = options.get("bits", 4), options.get("sym", True)
    form = options.get("checkpoint_format", "gptq")
    read = reader(gptq, gptq.Options(bits=bits, checkpoint_format=form))
    b_type = ("kU4B8" if bits == 4 else "kU8B128") if sym else "kU4"
    return written, read, b_type, 0 if options.get("act_order") else shape.group


def ct_case(written: Written, b_type: str, group: int) -> tuple[Written, Any, str, int]:
    return written, read_packed(written), b_type, group


def fp8_case(extent: str, group: int, shape: Shape = SHAPE, **options: Any) -> Any:
    written = writers.fp8(rng(), shape, extent=extent, **options)
    return written, reader(fp8), "kFE4M3fn", group


RAGGED = Shape(experts=2, k=320, n=192, group=64)
CASES: dict[str, Callable[[], tuple[Written, Any, str, int]]] = {
    "gptq": lambda: gptq_case(bias=True),
    "gptq channel": lambda: gptq_case(CHANNEL),
    "gptq v2": lambda: gptq_case(checkpoint_format="gptq_v2"),
    "gptq 8 bits": lambda: gptq_case(bits=8),
    "gptq 8 bits v2": lambda: gptq_case(bits=8, checkpoint_format="gptq_v2"),
    "gptq act-order": lambda: gptq_case(act_order=True),
    "gptq asymmetric": lambda: gptq_case(sym=False),
    "gptq asymmetric v2": lambda: gptq_case(sym=False, checkpoint_format="gptq_v2"),
    "awq": lambda: (writers.awq(rng(), SHAPE, bias=True), reader(awq, 64), "kU4", 64),
    "awq channel": lambda: (writers.awq(rng(), CHANNEL), reader(awq, None), "kU4", -1),
    "fp8 tensor": lambda: fp8_case("tensor", -1, bias=True),
    "fp8 channel": lambda: fp8_case("channel", -1, scale_dtype=ml_dtypes.bfloat16),
    "fp8 group": lambda: fp8_case("group", 64),
    "fp8 block": lambda: fp8_case("block", 128, scale_name="weight_scale_inv"),
    "fp8 ragged blocks": lambda: fp8_case("block", 128, RAGGED),
    "fp8 one row of blocks": lambda: fp8_case("block", 128, Shape(2, 256, 64, 64)),
    "fp8 one column of blocks": lambda: fp8_case("block", -1, Shape(2, 128, 256, 64)),
    "mxfp8": lambda: fp8_case("exponents", 32),
    "mxfp4 of gpt-oss": lambda: (writers.mxfp4(rng(), SHAPE), reader(mxfp4), "kFE2M1f", 32),
    "mxfp4": lambda: (
        writers.mxfp4(rng(), SHAPE, blocks=False, bias=False),
        reader(mxfp4),
        "kFE2M1f",
        32,
    ),
    "nvfp4 of ModelOpt": lambda: (
        writers.nvfp4(rng(), SHAPE, divides=False, bias=True),
        reader(nvfp4, False),
        "kFE2M1f",
        16,
    ),
    "nvfp4": lambda: (
        writers.nvfp4(rng(), SHAPE, divides=True),
        reader(nvfp4, False),
        "kFE2M1f",
        16,
    ),
    "ct int4": lambda: ct_case(writers.packed_integers(rng(), SHAPE), "kU4B8", 64),
    "ct int4 channel": lambda: ct_case(writers.packed_integers(rng(), CHANNEL), "kU4B8", -1),
    "ct int8": lambda: ct_case(writers.packed_integers(rng(), SHAPE, bits=8), "kU8B128", 64),
    "ct asymmetric": lambda: ct_case(writers.packed_integers(rng(), SHAPE, sym=False), "kU4", 64),
    "ct act-order": lambda: ct_case(
        writers.packed_integers(rng(), SHAPE, act_order=True), "kU4B8", 0
    ),
    "ct int8 bytes": lambda: ct_case(writers.int8_bytes(rng(), CHANNEL), "kU8B128", -1),
}


@pytest.mark.parametrize("name", CASES)
def test_a_matrix_means_what_its_checkpoint_means(name: str) -> None:
    written, read, b_type, group = CASES[name]()
    [matrix] = read(written.tensors)
    assert (matrix.b_type, matrix.group_size) == (b_type, group)
    np.testing.assert_array_equal(dequantised(matrix), written.weights)
    if written.bias is None:
        assert matrix.bias is None
    else:
        np.testing.assert_array_equal(matrix.bias.astype(float), written.bias)


@pytest.mark.parametrize("name", CASES)
def test_tensors_of_each_expert_are_stacked(name: str) -> None:
    written, read, _, _ = CASES[name]()
    [matrix] = read({key: list(tensor) for key, tensor in written.tensors.items()})
    np.testing.assert_array_equal(dequantised(matrix), written.weights)


def pair(name: str) -> tuple[Written, Written, Any]:
    """Gate and up, with other codes and scales but what they have to share."""
    written, read, _, _ = CASES[name]()
    other = {
        key: np.ascontiguousarray(np.roll(tensor, 1, axis=0))
        for key, tensor in written.tensors.items()
    }
    for shared in ("g_idx", "weight_g_idx", "weight_scale_2", "weight_global_scale"):
        if shared in other:
            other[shared] = written.tensors[shared]
    return written, Written(other, np.zeros(0)), read


@pytest.mark.parametrize("name", CASES)
def test_gate_and_up_come_side_by_side(name: str) -> None:
    gate, up, read = pair(name)
    matrix = joined(read([gate.tensors, up.tensors]), None)
    assert matrix.column_parts == 2
    both = [dequantised(read(part.tensors)[0]) for part in (gate, up)]
    np.testing.assert_array_equal(dequantised(matrix), np.concatenate(both, axis=2))
    if gate.bias is not None:
        rolled = np.roll(gate.bias, 1, axis=0)
        expected = np.concatenate([gate.bias, rolled], axis=1)
        np.testing.assert_array_equal(matrix.bias.astype(float), expected)


@pytest.mark.parametrize("name", ["mxfp4 of gpt-oss", "fp8 channel", "fp8 block", "nvfp4"])
def test_gate_and_up_that_alternate_are_sorted(name: str) -> None:
    written, read, _, _ = CASES[name]()
    matrix = joined(read(written.tensors), "interleaved")
    expected = np.concatenate([written.weights[..., 0::2], written.weights[..., 1::2]], axis=2)
    assert matrix.column_parts == 2
    np.testing.assert_array_equal(dequantised(matrix), expected)
    if written.bias is not None:
        bias = np.concatenate([written.bias[:, 0::2], written.bias[:, 1::2]], axis=1)
        np.testing.assert_array_equal(matrix.bias.astype(float), bias)


@pytest.mark.parametrize("name", ["awq", "mxfp4", "gptq act-order"])
def test_gate_and_up_of_one_tensor_stay_where_they_are(name: str) -> None:
    written, read, _, _ = CASES[name]()
    matrix = joined(read(written.tensors), "concatenated")
    assert matrix.column_parts == 2
    np.testing.assert_array_equal(dequantised(matrix), written.weights)


def test_gate_may_be_symmetric_where_up_is_not() -> None:
    gate = writers.gptq(rng(1), SHAPE)
    up = writers.gptq(rng(2), SHAPE, sym=False)
    matrix = joined(reader(gptq, gptq.Options())([gate.tensors, up.tensors]), None)
    assert matrix.b_type == "kU4"
    expected = np.concatenate([gate.weights, up.weights], axis=2)
    np.testing.assert_array_equal(dequantised(matrix), expected)


def test_zeros_of_version_1_borrow_from_their_neighbours() -> None:
    """Version 1 subtracts 0x11111111 from whole words: zero 0 takes one from the next element."""
    written = writers.gptq(rng(), SHAPE, sym=False, checkpoint_format="gptq_v2")
    zeros = rng(3).integers(0, 16, (SHAPE.experts, SHAPE.groups, SHAPE.n))
    words = writers.pack(zeros, 4, 2)
    tensors = written.tensors | {"qzeros": words - np.int32(0x11111111)}
    [matrix] = reader(gptq, gptq.Options())(tensors)
    np.testing.assert_array_equal(unpack(matrix.zero_points, 4, 2, AWQ_COLUMNS), zeros)


def test_two_rows_in_each_others_groups_are_act_order() -> None:
    written = writers.gptq(rng(), SHAPE)
    g_idx = written.tensors["g_idx"].copy()
    g_idx[:, [1, 65]] = g_idx[:, [65, 1]]
    [matrix] = reader(gptq, gptq.Options())(written.tensors | {"g_idx": g_idx})
    assert matrix.group_size == 0
    np.testing.assert_array_equal(matrix.g_idx, g_idx)


def test_different_scales_for_all_are_rounded_if_asked_to() -> None:
    # Ratios of powers of two: rounding scales of 16 rows anew then changes nothing.
    sizes = [np.exp2(np.array([-9.0, -8.0, -9.0])), np.exp2(np.array([-8.0, -9.0, -9.0]))]
    parts = [
        writers.nvfp4(rng(i), SHAPE, divides=False, global_scales=size.astype(np.float32))
        for i, size in enumerate(sizes)
    ]
    tensors = [part.tensors for part in parts]
    with pytest.raises(InvalidArgumentError, match=r"different scales for all .*requantize_scales"):
        reader(nvfp4, False)(tensors)
    matrix = joined(reader(nvfp4, True)(tensors), None)
    np.testing.assert_array_equal(matrix.global_scales, np.exp2(np.array([-8.0, -8.0, -9.0])))
    expected = np.concatenate([part.weights for part in parts], axis=2)
    np.testing.assert_array_equal(dequantised(matrix), expected)


# --- What is refused.


def changed(name: str, **changes: Any) -> Callable[[], Any]:
    """Reads a case with other tensors; None takes one away."""

    def run() -> Any:
        written, read, _, _ = CASES[name]()
        tensors = dict(written.tensors)
        for key, change in changes.items():
            tensors[key] = change(tensors.get(key)) if callable(change) else change
            if tensors[key] is None:
                del tensors[key]
        return read(tensors)

    return run


def gptq_options(name: str, **options: Any) -> Callable[[], Any]:
    return lambda: reader(gptq, gptq.Options(**options))(CASES[name]()[0].tensors)


def ct_options(name: str, **changes: Any) -> Callable[[], Any]:
    def run() -> Any:
        written = CASES[name]()[0]
        scheme = {**written.options["weights"], **changes}
        return reader(compressed_tensors, scheme, False)(written.tensors)

    return run


def two(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[], Any]:
    def run() -> Any:
        gate, up, read = pair(name)
        change(up.tensors)
        return joined(read([gate.tensors, up.tensors]), None)

    return run


def drop_bias(tensors: dict[str, Any]) -> None:
    del tensors["bias"]


def other_order(tensors: dict[str, Any]) -> None:
    tensors["g_idx"] = tensors["g_idx"][:, ::-1]


def fewer_columns(tensors: dict[str, Any]) -> None:
    for key in ("qweight", "qzeros"):
        tensors[key] = tensors[key][..., : tensors[key].shape[-1] // 2]
    for key in ("scales", "bias"):
        tensors[key] = tensors[key][..., : SHAPE.n // 2]


REFUSED: dict[str, Callable[[], Any]] = {
    "tensors = list object is not allowed": lambda: projections([1, 2]),
    "tensors = 3 mappings is not allowed": lambda: projections([{}, {}, {}]),
    "tensors = a mapping with nothing left is not allowed; allowed: one that has 'qweight'": (
        lambda: reader(awq, None)({})
    ),
    "tensors = a mapping with 'g_idx' is not allowed; allowed: one without": changed(
        "awq", g_idx=np.zeros(3)
    ),
    "tensors['qweight'] = dtype int64": changed("awq", qweight=lambda x: x.astype(np.int64)),
    "tensors['qweight'] = builtins.str object": changed("gptq", qweight="qweight"),
    "tensors['qweight'] = None": changed("gptq", qweight=lambda x: [None]),
    "tensors['qweight'] = an empty list": changed("gptq", qweight=lambda x: []),
    "tensors['qweight'] = shapes [(16, 128), (32, 128)]": changed(
        "gptq", qweight=lambda x: [x[0], x[1][:16]]
    ),
    "tensors['scales'] = shape (3, 4, 64) is not allowed; allowed: shape (3, any, 128)": changed(
        "gptq", scales=lambda x: x[..., :64]
    ),
    "tensors['scales'] = shape (2, 4, 128) is not allowed; allowed: shape (3, any, 128)": changed(
        "gptq", scales=lambda x: x[:2]
    ),
    "tensors['qzeros'] = shape (3, 3, 16)": changed("awq", qzeros=lambda x: x[:, :3]),
    "bits = 3 is not allowed": gptq_options("gptq", bits=3),
    "tensors['qzeros'] = shape (3, 4, 16)": gptq_options("gptq", bits=8),
    "checkpoint_format = 'gptq_v3'": gptq_options("gptq", checkpoint_format="gptq_v3"),
    "checkpoint_format = gptq_v2 is not allowed; allowed: gptq: ": gptq_options(
        "gptq", checkpoint_format="gptq_v2"
    ),
    "checkpoint_format = gptq is not allowed; allowed: gptq_v2: ": gptq_options("gptq v2"),
    "sym = False is not allowed; allowed: True": gptq_options("gptq", sym=False),
    "sym = True is not allowed; allowed: False": gptq_options("gptq asymmetric", sym=True),
    "bits = 8 is not allowed; allowed: 4": lambda: reader(gptq, gptq.Options(bits=8))(
        writers.gptq(rng(), SHAPE, bits=8, sym=False).tensors
    ),
    "group_size = 128 is not allowed; allowed: 64": gptq_options("gptq", group_size=128),
    "group_size = -1 is not allowed; allowed: 64": gptq_options("gptq", group_size=-1),
    "group_size = 32 is not allowed; allowed: 64": lambda: reader(awq, 32)(
        CASES["awq"]()[0].tensors
    ),
    "desc_act = False is not allowed": gptq_options("gptq act-order", desc_act=False),
    "desc_act = True is not allowed; allowed: False: there is no g_idx": lambda: reader(
        gptq, gptq.Options(desc_act=True)
    )({key: value for key, value in CASES["gptq"]()[0].tensors.items() if key != "g_idx"}),
    "desc_act = True is not allowed; allowed: False where sym": lambda: reader(
        gptq, gptq.Options()
    )(writers.gptq(rng(), SHAPE, sym=False, act_order=True).tensors),
    "g_idx = groups 0 to 4 is not allowed; allowed: 0 to 3": changed(
        "gptq act-order", g_idx=lambda x: np.where(x == 3, 4, x).astype(np.int32)
    ),
    "g_idx = groups -1 to 3": changed(
        "gptq act-order", g_idx=lambda x: np.where(x == 0, -1, x).astype(np.int32)
    ),
    "g_idx = groups 1 to 4": changed("gptq", g_idx=lambda x: x + np.int32(1)),
    "group_size = None is not allowed; allowed: 85.3333": lambda: reader(awq, None)(
        {
            key: tensor if key == "qweight" else tensor[:, :3]
            for key, tensor in writers.awq(rng(), SHAPE).tensors.items()
        }
    ),
    "tensors['weight_scale'] = a negative scale or NaN is not": changed(
        "nvfp4 of ModelOpt",
        weight_scale=lambda x: (
            np.where(x.view(np.uint8) == 0x77, 0x7F, x.view(np.uint8))
            .astype(np.uint8)
            .view(ml_dtypes.float8_e4m3fn)
        ),
    ),
    "tensors = neither is not allowed; allowed: one of weight_scale,": changed(
        "fp8 channel", weight_scale=None
    ),
    "tensors = weight_scale and weight_scale_inv": changed(
        "fp8 channel", weight_scale_inv=np.zeros(3)
    ),
    "tensors['weight'] = dtype float8_e5m2": changed(
        "fp8 channel", weight=lambda x: x.view(np.uint8).view(ml_dtypes.float8_e5m2)
    ),
    "tensors['weight_scale'] = shape (3, 128, 3)": changed(
        "fp8 group", weight_scale=lambda x: x[..., :3]
    ),
    "tensors['weight_scale'] = shape (3, 2)": changed(
        "fp8 tensor", weight_scale=lambda x: np.stack([x, x], axis=1)
    ),
    "tensors['scales'] = a scale of NaN": changed(
        "mxfp4 of gpt-oss", scales=lambda x: np.full_like(x, 255)
    ),
    "tensors['scales'] = a scale of 2^65": changed(
        "mxfp4 of gpt-oss", scales=lambda x: np.full_like(x, 127 + 65)
    ),
    "tensors = weight_packed and weight is not": changed("mxfp4", weight=np.zeros(3)),
    "tensors['weight_scale'] = a negative scale or NaN": changed(
        "nvfp4", weight_scale=lambda x: -x
    ),
    "tensors = weight_scale_2 and weight_global_scale": changed(
        "nvfp4", weight_scale_2=np.ones(3, np.float32)
    ),
    "tensors['weight_global_scale'] = a scale that is not positive": changed(
        "nvfp4", weight_global_scale=lambda x: x * 0
    ),
    "tensors['weight_shape'] = [128, 250]": changed(
        "ct int4", weight_shape=np.tile(np.array([128, 250], np.int64), (3, 1))
    ),
    "tensors['weight_zero_point'] = None": ct_options("ct int4", symmetric=False),
    "sym = True is not": ct_options("ct asymmetric", symmetric=True),
    "weights = type int, num_bits 2": ct_options("ct int4", num_bits=2),
    "weights = type float, num_bits 4, group_size 64": ct_options("ct int4", type="float"),
    "weights = NoneType object": lambda: reader(compressed_tensors, None, False)({}),
    "weights = group_size 32": lambda: reader(
        compressed_tensors,
        {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32},
        False,
    )(CASES["fp8 group"]()[0].tensors),
    "tensors[1] = n = 64, k = 256": two("gptq", fewer_columns),
    "tensors[1] = other g_idx than gate's": two("gptq act-order", other_order),
    "tensors = a bias of one projection": two("awq", drop_bias),
    "gate_up = 'both' is not allowed; allowed: None, concatenated, interleaved": lambda: joined(
        CASES["awq"]()[1](CASES["awq"]()[0].tensors), "both"
    ),
    "gate_up = interleaved is not allowed; allowed: concatenated, None: several": lambda: joined(
        CASES["awq"]()[1](CASES["awq"]()[0].tensors), "interleaved"
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_go_together_is_refused(message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        REFUSED[message]()
    assert str(caught.value).startswith(message)


# --- From a matrix to ExpertWeights, with functions that prepare by what they are documented to do.


def filled(array: np.ndarray, axis: int, length: int, parts: int = 1, fill: float = 0) -> Any:
    """Fills up an axis at the end of each of its parts."""
    pieces = []
    for piece in np.split(array, parts, axis=axis):
        width = [(0, 0)] * piece.ndim
        width[axis] = (0, length // parts - piece.shape[axis])
        pieces.append(np.pad(piece, width, constant_values=fill))
    return np.concatenate(pieces, axis=axis)


class Fakes:
    """The package's functions that prepare, in float64; they note the types they were given."""

    PADDING = 99.0  # the code of an added weight of kU4, which has no value by itself

    def __init__(self) -> None:
        self.a_types: set[str] = set()
        self.c_types: set[str] = set()

    def padded_shape(self, n: int, k: int, *, b_type: str, group_size: int, a_type: str) -> Any:
        unit = max(64, group_size)
        rows = -(-k // unit) * unit
        groups = rows // group_size if group_size > 0 else 1
        self.a_types.add(a_type)
        return prepare.PaddedShape(-(-n // 64) * 64, rows, groups)

    def _repack(self, packing: str, words: Any, b_type: str, a_type: str) -> Any:
        self.a_types.add(a_type)
        assert words.flags.c_contiguous
        bits = 8 if b_type in ("kU8B128", "kFE4M3fn") else 4
        return code_values(codes_of(packing, words, bits), b_type)

    def repack_gptq(
        self, words: Any, *, b_type: str, a_type: str, perm: Any, padded: Any, column_parts: int
    ) -> Any:
        values = self._repack("gptq", words, b_type, a_type)
        values = filled(filled(values, 1, padded.k), 2, padded.n, column_parts)
        return values if perm is None else np.take_along_axis(values, perm[:, :, None], axis=1)

    def repack_rows(
        self, words: Any, *, b_type: str, a_type: str, padded: Any, column_parts: int
    ) -> Any:
        values = self._repack("rows", words, b_type, a_type)
        return filled(filled(values, 1, padded.k), 2, padded.n, column_parts)

    def repack_awq(
        self,
        words: Any,
        *,
        b_type: str,
        a_type: str,
        padded: Any,
        column_parts: int,
        qzeros: Any,
    ) -> Any:
        values = self._repack("awq", words, b_type, a_type)
        needed = a_type == "kFE4M3fn" or values.shape[1] < padded.k
        assert (qzeros is not None) == needed
        if needed:
            assert padded.k % padded.num_groups == 0 and qzeros.shape[1] <= padded.num_groups
        return filled(filled(values, 1, padded.k, fill=self.PADDING), 2, padded.n, column_parts)

    def sort_rows_by_group(self, g_idx: Any) -> Any:
        perm = np.argsort(g_idx, axis=1, kind="stable")
        return prepare.SortedRows(perm, np.take_along_axis(g_idx, perm, axis=1))

    def permute_scales(
        self,
        scales: Any,
        *,
        b_type: str,
        group_size: int,
        a_type: str,
        c_type: str,
        s_type: str,
        columns_first: bool,
        padded: Any,
        column_parts: int,
    ) -> Any:
        self.a_types.add(a_type)
        self.c_types.add(c_type)
        known = {"kFloat16": "float16", "kBFloat16": "bfloat16"}.get(s_type, "uint8")
        assert scales.flags.c_contiguous
        assert scales.dtype.name == known or (known != "uint8" and scales.dtype == np.float32)
        values = scale_values(scales, None if known != "uint8" else s_type)
        values = values.swapaxes(1, 2) if columns_first else values
        return prepare.PermutedScales(
            filled(filled(values, 1, padded.num_groups), 2, padded.n, column_parts), None
        )

    def scale_global_scales(self, global_scales: Any, *, c_type: str) -> Any:
        self.c_types.add(c_type)
        assert global_scales.dtype == np.float32
        return global_scales

    def permute_bias(self, bias: Any, *, padded: Any, column_parts: int) -> Any:
        self.c_types.add({"float16": "kFloat16", "bfloat16": "kBFloat16"}[bias.dtype.name])
        return filled(bias.astype(float), 1, padded.n, column_parts)

    def permute_zero_points(
        self, zeros: Any, *, a_type: str, padded: Any, column_parts: int
    ) -> Any:
        self.a_types.add(a_type)
        values = unpack(zeros, 4, 2, AWQ_COLUMNS)
        return filled(filled(values, 1, padded.num_groups), 2, padded.n, column_parts)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    made = Fakes()
    for name in dir(made):
        if not name.startswith("_") and hasattr(prepare, name):
            monkeypatch.setattr(prepare, name, getattr(made, name))
    monkeypatch.setattr(weights, "_expert_weights", lambda *given: given)
    yield made


def meaning(made: ExpertWeights) -> np.ndarray:
    """What weights that the fakes have made stand for."""
    if made.group_size == 0:
        groups = made.g_idx
        assert (np.diff(groups, axis=1) >= 0).all()
    else:
        k = made.b.shape[1]
        rows = np.arange(k) // (k if made.group_size == -1 else made.group_size)
        groups = np.broadcast_to(rows, made.b.shape[:2])
    take = groups[:, :, None].astype(int)
    values = made.b
    if made.zero_points is not None:
        zeros = np.take_along_axis(made.zero_points, take, axis=1)
        values = np.where(values == Fakes.PADDING, 0, values - zeros)
    values = values * np.take_along_axis(made.scales, take, axis=1)
    if made.global_scales is not None:
        values = values * made.global_scales.astype(float)[:, None, None]
    if made.perm is None:
        return values
    back = np.empty_like(values)
    np.put_along_axis(back, made.perm[:, :, None], values, axis=1)
    return back


def method(name: str) -> Callable[..., ExpertWeights]:
    written = CASES[name]()[0]
    if name.startswith("ct "):
        scheme = written.options["weights"]
        return lambda tensors, **options: ExpertWeights.from_compressed_tensors(
            tensors, scheme, **options
        )
    if name.startswith("gptq"):
        bits = 8 if "8 bits" in name else 4
        form = "gptq_v2" if "v2" in name else "gptq"
        return lambda tensors, **options: ExpertWeights.from_gptq(
            tensors, bits=bits, checkpoint_format=form, **options
        )
    if name.startswith("nvfp4"):
        return ExpertWeights.from_nvfp4
    kinds = {"awq": ExpertWeights.from_awq, "mxfp4": ExpertWeights.from_mxfp4}
    return kinds.get(name.split()[0], ExpertWeights.from_fp8)


@pytest.mark.parametrize("name", CASES)
def test_prepared_weights_mean_the_same(name: str, fakes: Fakes) -> None:
    written, _, b_type, group = CASES[name]()
    made = method(name)(written.tensors)
    assert (made.b_type, made.group_size, made.column_parts) == (b_type, group, 1)
    assert (made.a_type, made.c_type) == (None, "kBFloat16")
    assert (fakes.a_types, fakes.c_types) == ({"kBFloat16"}, {"kBFloat16"})
    right = filled(written.weights, 1, made.b.shape[1])
    np.testing.assert_allclose(meaning(made), right, rtol=2**-8)
    if written.bias is not None:
        np.testing.assert_array_equal(made.bias, written.bias)


@pytest.mark.parametrize("name", ["gptq", "awq", "gptq asymmetric", "ct int4"])
@pytest.mark.parametrize("a_type", ["kS8", "kFE4M3fn"])
def test_what_weights_are_prepared_for_is_part_of_them(
    name: str, a_type: str, fakes: Fakes
) -> None:
    written = CASES[name]()[0]
    made = method(name)(written.tensors, a_type=a_type, c_type="kFloat16")
    assert (made.a_type, made.c_type, made.s_type) == (a_type, "kFloat16", "kFloat16")
    assert (fakes.a_types, fakes.c_types) == ({a_type}, {"kFloat16"})
    np.testing.assert_allclose(meaning(made), written.weights, rtol=2**-8)


SMALL = Shape(experts=2, k=96, n=96, group=32)
PADDED = {
    "gptq": lambda: writers.gptq(rng(), SMALL, bias=True),
    "gptq act-order": lambda: writers.gptq(rng(), SMALL, act_order=True),
    "gptq asymmetric": lambda: writers.gptq(rng(), SMALL, sym=False),
    "awq": lambda: writers.awq(rng(), SMALL, bias=True),
    "mxfp4 of gpt-oss": lambda: writers.mxfp4(rng(), SMALL),
    "nvfp4": lambda: writers.nvfp4(rng(), SMALL, divides=True),
}


@pytest.mark.parametrize("name", PADDED)
def test_shards_are_filled_up_with_zeros(name: str, fakes: Fakes) -> None:
    written = PADDED[name]()
    down = method(name)(written.tensors)
    assert down.b.shape == (2, 128, 128)
    right = filled(filled(written.weights, 1, 128), 2, 128)
    np.testing.assert_allclose(meaning(down), right, rtol=2**-8)

    both = method(name)([written.tensors, written.tensors])
    assert (both.b.shape, both.column_parts) == ((2, 128, 256), 2)
    np.testing.assert_allclose(meaning(both), np.concatenate([right, right], 2), rtol=2**-8)
    if written.bias is not None:
        bias = filled(written.bias, 1, 128)
        np.testing.assert_array_equal(both.bias, np.concatenate([bias, bias], axis=1))


def test_gate_and_up_are_filled_up_as_the_rows_of_down_are(fakes: Fakes) -> None:
    """96 rows in blocks of 128 become 128, and so do the 96 columns of gate and of up."""
    part = writers.fp8(rng(), Shape(2, 256, 192, 128), extent="block").tensors
    assert ExpertWeights.from_fp8([part, part]).b.shape == (2, 256, 512)
    assert ExpertWeights.from_fp8(part).b.shape == (2, 256, 192)
    assert ExpertWeights.from_fp8(part, n=320, k=384).b.shape == (2, 384, 320)


def test_scales_that_a_type_cannot_hold_are_refused(fakes: Fakes) -> None:
    written = writers.fp8(rng(), SHAPE, extent="channel")
    tiny = written.tensors | {"weight_scale": written.tensors["weight_scale"] * np.float32(1e-6)}
    with pytest.raises(InvalidArgumentError, match=r"scales = values that float16 cannot hold"):
        ExpertWeights.from_fp8(tiny, c_type="kFloat16")
    ExpertWeights.from_fp8(tiny)
    for wrong in (np.nan, np.inf):
        scales = written.tensors["weight_scale"].copy()
        scales[1, 5] = wrong
        with pytest.raises(InvalidArgumentError, match=r"scales = infinity or NaN"):
            ExpertWeights.from_fp8(written.tensors | {"weight_scale": scales})
    with pytest.raises(InvalidArgumentError, match=r"c_type = 'kS8' is not allowed"):
        ExpertWeights.from_fp8(written.tensors, c_type="kS8")


# --- Files.

PATTERN = "model.layers.3.mlp.experts.{expert}.{projection}.{tensor}"


def named(part: Written, projection: str, layer: int = 3) -> dict[str, np.ndarray]:
    return {
        f"model.layers.{layer}.mlp.experts.{expert}.{projection}.{key}": tensor[expert]
        for key, tensor in part.tensors.items()
        for expert in range(len(tensor))
    }


def files(tmp_path: Path) -> tuple[Path, Written, Written]:
    """A checkpoint of two files, with tensors of another layer."""
    gate, up = writers.gptq(rng(1), SHAPE), writers.gptq(rng(2), SHAPE)
    other = writers.gptq(rng(3), SHAPE)
    first = named(gate, "gate_proj") | named(other, "gate_proj", layer=33)
    safetensors.numpy.save_file(first, tmp_path / "model-1.safetensors")
    safetensors.numpy.save_file(named(up, "up_proj"), tmp_path / "model-2.safetensors")
    return tmp_path, gate, up


def test_experts_are_read_from_files(tmp_path: Path) -> None:
    folder, gate, up = files(tmp_path)
    options: Any = {"projections": ["gate_proj", "up_proj"], "framework": "np", "device": "cpu"}
    parts = read_experts(folder, PATTERN, **options)
    for read, part in zip(parts, (gate, up), strict=True):
        assert set(read) == set(part.tensors)
        [matrix] = reader(gptq, gptq.Options())(read)
        np.testing.assert_array_equal(dequantised(matrix), part.weights)
    [only] = read_experts(
        folder / "model-2.safetensors", PATTERN, **(options | {"projections": ["up_proj"]})
    )
    np.testing.assert_array_equal(only["qweight"], up.tensors["qweight"])
    [some] = read_experts(
        folder, PATTERN, **(options | {"projections": ["up_proj"]}), experts=[2, 0]
    )
    np.testing.assert_array_equal(some["scales"], up.tensors["scales"][[2, 0]])


def test_experts_of_one_tensor_are_read() -> None:
    written = writers.mxfp4(rng(), SHAPE)
    source = {f"layers.0.gate_up_proj_{key}": tensor for key, tensor in written.tensors.items()}
    [part] = read_experts(source | {"layers.0.router": None}, "layers.0.gate_up_proj_{tensor}")
    assert part["blocks"] is written.tensors["blocks"]
    [some] = read_experts(source, "layers.0.gate_up_proj_{tensor}", experts=[1])
    np.testing.assert_array_equal(some["scales"], written.tensors["scales"][[1]])


def of_names(*names: str, pattern: str = "e.{expert}.{tensor}", **options: Any) -> Any:
    return lambda: read_experts(dict.fromkeys(names, np.zeros(1)), pattern, **options)


UNREADABLE: dict[str, Callable[[], Any]] = {
    "pattern = None is not allowed": of_names("e.0.a", pattern=None),
    "pattern = 'e.{expert}' is not": of_names("e.0.a", pattern="e.{expert}"),
    "pattern = {expert} is not": of_names("e.0.a", pattern="{expert}.{expert}.{tensor}"),
    "pattern = {layer} is not": of_names("e.0.a", pattern="{layer}.{expert}.{tensor}"),
    "pattern = 'f.{expert}.{tensor}' is not": of_names("e.0.a", pattern="f.{expert}.{tensor}"),
    "pattern = 'e.{expert}.{projection}.{tensor}' with 'q' is not": of_names(
        "e.0.p.a", pattern="e.{expert}.{projection}.{tensor}", projections=["q"]
    ),
    "projections = None is not": of_names("e.0.a", pattern="e.{projection}.{tensor}"),
    "projections = ['p'] is not": of_names("e.0.a", projections=["p"]),
    "projections = 'p' is not": of_names(
        "e.0.a", pattern="e.{projection}.{tensor}", projections="p"
    ),
    "source = a of the experts without experts [1] is not": of_names("e.0.a", "e.2.a"),
    "source = b of the experts without experts [1] is not": of_names("e.0.a", "e.1.a", "e.0.b"),
    "source = a of the experts without experts [7] is not": of_names("e.0.a", experts=[7]),
    "source = NoneType object is not": lambda: read_experts(None, "{tensor}"),
    "source = /nowhere is not": lambda: read_experts("/nowhere", "{tensor}"),
    "source = " + __file__: lambda: read_experts(__file__, "{tensor}", framework="np"),
}


@pytest.mark.parametrize("message", UNREADABLE)
def test_what_is_not_there_is_named(message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        UNREADABLE[message]()
    assert str(caught.value).startswith(message)
