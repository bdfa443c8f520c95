"""Times the functions around the GEMM on shapes of real models, inside CUDA graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from prepare_lib import Buffer, PrepareLibrary


def _measure(
    library: PrepareLibrary,
    name: str,
    function: str,
    fields: dict[str, Any],
    inputs: dict[str, np.ndarray],
    outputs: dict[str, int],
) -> dict[str, Any]:
    """Returns the time of one call and the rate of the bytes that it must move."""
    with contextlib.ExitStack() as stack:
        pointers = {}
        for field, data in inputs.items():
            buffer = stack.enter_context(Buffer(library, data.nbytes))
            buffer.fill(data)
            pointers[field] = buffer.address
        for field, size in outputs.items():
            pointers[field] = stack.enter_context(Buffer(library, size)).address
        args = library.arguments(function, {**fields, **pointers})
        if function == "moe_align":
            size = library.align_workspace_size(args)
            args.workspace = stack.enter_context(Buffer(library, max(size, 4))).address
            args.workspace_bytes = size
        microseconds = library.time(function, args)
    moved = sum(data.nbytes for data in inputs.values()) + sum(outputs.values())
    return {
        "name": name,
        "microseconds": microseconds,
        "gigabytes_per_second": moved / microseconds / 1e3,
    }


def _align(library: PrepareLibrary) -> Iterator[dict[str, Any]]:
    for num_ids, experts, block_size in [
        (2, 8, 8),
        (8, 128, 8),
        (8, 256, 8),
        (512, 128, 8),
        (512, 256, 8),
        (1024, 1024, 8),
        (4096, 256, 16),
        (32768, 128, 64),
        (32768, 256, 64),
        (131072, 256, 64),
    ]:
        ids = np.random.default_rng(1).integers(0, experts, num_ids).astype(np.int32)
        places = library.align_capacity(num_ids, experts, block_size)
        yield _measure(
            library,
            f"moe_align {num_ids} ids, {experts} experts, block {block_size}",
            "moe_align",
            {"num_ids": num_ids, "num_experts": experts, "block_size": block_size},
            {"topk_ids": ids},
            {
                "sorted_token_ids": 4 * places,
                "expert_ids": 4 * (places // block_size),
                "num_tokens_past_padded": 4,
            },
        )


def _activations(library: PrepareLibrary) -> Iterator[dict[str, Any]]:
    for m, k in [(1, 4096), (16, 7168), (4096, 7168)]:
        values = np.random.default_rng(2).integers(0, 0x7B00, (m, k), dtype=np.uint16)
        for out_type in ("kS8", "kFE4M3fn"):
            yield _measure(
                library,
                f"quantize_activations {out_type[1:]} {m}x{k}",
                "quantize_activations",
                {"m": m, "k": k, "x_type": "kBFloat16", "out_type": out_type, "x_stride": k},
                {"x": values},
                {"out": m * k, "scales": 4 * m},
            )
    for m, n in [(2, 14336), (16384, 2048)]:
        values = np.zeros((m, 2 * n), np.uint16)
        yield _measure(
            library,
            f"act_and_mul {m}x{n}",
            "act_and_mul",
            {"m": m, "n": n, "type": "kBFloat16"},
            {"x": values},
            {"out": m * n * 2},
        )
    for m, top_k, n in [(1, 2, 4096), (4096, 8, 7168)]:
        values = np.zeros((m * top_k, n), np.uint16)
        yield _measure(
            library,
            f"topk_sum {m}x{top_k}x{n}",
            "topk_sum",
            {"m": m, "n": n, "top_k": top_k, "type": "kBFloat16"},
            {"x": values},
            {"out": m * n * 2},
        )


def _repack(library: PrepareLibrary) -> Iterator[dict[str, Any]]:
    experts, k, n = 8, 4096, 14336
    shape = {"num_experts": experts, "n": n, "k": k}
    words = np.zeros(experts * k * n // 8, np.uint32)
    for function, source in [
        ("repack_gptq", "qweight"),
        ("repack_awq", "qweight"),
        ("repack_rows", "weights"),
    ]:
        for a_type in ("kFloat16", "kS8"):
            b_type = "kU4" if function == "repack_awq" else "kU4B8"
            yield _measure(
                library,
                f"{function} {a_type[1:]} {experts}x{k}x{n}",
                function,
                {**shape, "a_type": a_type, "b_type": b_type},
                {source: words},
                {"out": words.nbytes},
            )
    perm = np.tile(np.random.default_rng(3).permutation(k).astype(np.int32), (experts, 1))
    yield _measure(
        library,
        f"repack_gptq perm {experts}x{k}x{n}",
        "repack_gptq",
        {**shape, "a_type": "kFloat16", "b_type": "kU4B8"},
        {"qweight": words, "perm": perm},
        {"out": words.nbytes},
    )


def measure(library: PrepareLibrary) -> Iterator[dict[str, Any]]:
    """Yields {"name", "microseconds", "gigabytes_per_second"} for each shape."""
    yield from _align(library)
    yield from _activations(library)
    yield from _repack(library)
