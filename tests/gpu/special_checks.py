"""Checks of the MoE GEMM beyond single cases: refusals, graphs, streams, workspaces, sizes.

Each check is a function of a Bench; it raises CheckFailedError, or returns a note for the report.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from cases import GROUP_CHANNEL, Case, Combination, Kernel, WeightKey
from checks import Result, check_guards, compare, launch, new_result, synchronise
from moe_gemm_lib import MoeGemmLibrary
from operands import Guarded, Problem
from second_context import SecondContext
from weights import Weights


class CheckFailedError(AssertionError):
    """A promise of the API was not kept; the message says which."""


@dataclass
class Bench:
    """What a check works with: the library, the device, and the weights it is about.

    `kernel`: that has to solve all problems, or None for the library's choice.
    """

    library: MoeGemmLibrary
    device: str
    key: WeightKey
    kernel: Kernel | None = None

    def problem(self, m: int, **fields: Any) -> Problem:
        """Makes a problem on the bench's weights.

        `n`, `k`, `extreme`, `pad_n`, `pad_k` (see WeightKey) and Case's fields may be given.
        """
        of_weights = ("n", "k", "extreme", "pad_n", "pad_k")
        shape = {name: fields.pop(name) for name in of_weights if name in fields}
        key = replace(self.key, **shape)
        if self.key.group_size == -1:
            key = replace(key, group_length=key.k)
        defaults = {"kind": "special", "num_experts": 5, "top_k": 2, "seed": 7}
        if self.kernel is not None:
            defaults["block_size"] = self.kernel.block_size
            defaults["tile"] = self.kernel.tile
            defaults["blocks_per_sm"] = self.kernel.blocks_per_sm
        case = Case(weights=key, m=m, **{**defaults, **fields})
        seed = zlib.crc32(repr(key).encode())
        weights = Weights(key, case.local_experts, self.device, self.device, seed)
        return Problem(self.library, case, weights, self.device, self.device)

    def run(self, problem: Problem) -> torch.Tensor:
        """Launches, requires success, and returns the output's bits."""
        status = launch(self.library, problem, problem.forced_config(), self.device)
        if not status.ok:
            raise CheckFailedError(f"{problem.case.name}: {status.name}: {status.message}")
        return problem.output_bits()

    def checked_run(self, problem: Problem) -> torch.Tensor:
        """As run(), and compares with the reference."""
        bits = self.run(problem)
        result = Result(problem.case.name, "special")
        compare(problem, bits, result)
        check_guards(problem, result)
        if result.status != "pass":
            raise CheckFailedError(f"{problem.case.name}: {result.detail}")
        return bits


def no_tokens(bench: Bench) -> str:
    """m = 0 succeeds and writes nothing."""
    problem = bench.problem(0)
    if not bool((bench.run(bench.problem(1)) != 0).any()):
        raise CheckFailedError("a problem with one token gave only zeros")
    status = launch(bench.library, problem, None, bench.device)
    if not status.ok:
        raise CheckFailedError(f"m = 0: {status.name}: {status.message}")
    if not (problem.c_untouched() and problem.c.intact()):
        raise CheckFailedError("m = 0 wrote to C")
    return ""


def no_local_experts(bench: Bench) -> str:
    """With every block on another device nothing is written, whatever expert_parallel says."""
    for flag in (True, False):
        problem = bench.problem(
            123, num_experts=12, parts=4, local="none", flag_parallel=flag, bias=True
        )
        bench.checked_run(problem)
    return ""


def parallel_flag_changes_nothing(bench: Bench) -> str:
    """Blocks of -1 are skipped wherever they stand, with and without expert_parallel."""
    for local in ("first", "last", "middle", "spread"):
        shared = {"num_experts": 12, "parts": 4, "local": local, "bias": True}
        for flag in (True, False):
            bench.checked_run(bench.problem(123, flag_parallel=flag, **shared))
    return ""


def numbers_out_of_range(bench: Bench) -> str:
    """Whatever is no id is padding, and blocks with whatever is no expert are skipped."""
    most, least = 2**31 - 1, -(2**31)
    for local in ("none", "spread"):
        for flag in (True, False):
            problem = bench.problem(
                123, num_experts=12, parts=4, local=local, flag_parallel=flag, topk_weights=True
            )
            experts, ids = problem.args.num_experts, problem.case.m * problem.case.top_k
            expected = bench.checked_run(problem)
            problem.renumber((-1, ids + 1, most, least), (experts, -2, most, least))
            if not torch.equal(bench.checked_run(problem), expected):
                raise CheckFailedError(f"{problem.case.name}: differs with other numbers")
    return ""


def ids_in_any_order(bench: Bench) -> str:
    """A block's ids and its padding may stand in any order."""
    for m in (3, 123):
        problem = bench.problem(m, num_experts=12, bias=True, topk_weights=True)
        expected = bench.checked_run(problem)
        problem.renumber((-1, 2**31 - 1), (), shuffled=True)
        if not torch.equal(bench.checked_run(problem), expected):
            raise CheckFailedError(f"{problem.case.name}: differs with ids in another order")
    return ""


def every_block_size(bench: Bench) -> str:
    """All block sizes agree with the reference, with most blocks partly filled."""
    for block_size in bench.key.block_sizes:
        bench.checked_run(bench.problem(37, block_size=block_size, num_experts=12))
    return ""


def one_group_is_a_scale_per_channel(bench: Bench) -> str:
    """A group as long as k is read as one scale per channel, which is how packers lay it out."""
    key = bench.key
    if key.group_size not in (0, 64, 128):
        return "k is a multiple of 64: there are always more groups"
    problem = bench.problem(37, k=key.group_length, bias=True)
    status, _ = bench.library.choose_config(problem.args)
    if status.name == "no_kernel" and "group_size -1" in status.message:
        return "no kernel with a scale per channel was built"
    expected = bench.checked_run(problem)
    problem.args.group_size = -1
    if not torch.equal(bench.run(problem), expected):
        raise CheckFailedError(f"{problem.case.name}: differs from the same with group_size = -1")
    return ""


def padded_shards(bench: Bench) -> str:
    """Columns of padding are zeros, and rows of padding count for nothing, whatever A has there."""
    for pad_n, pad_k in ((32, 0), (0, 32), (63, 33)):
        problem = bench.problem(37, n=192, pad_n=pad_n, pad_k=pad_k, bias=True)
        bits = bench.checked_run(problem)
        local = torch.from_numpy(problem.local_expert_of_id >= 0).to(bits.device)
        if bool(problem.values(bits[local][:, 192 - pad_n :]).any()):
            raise CheckFailedError(f"{problem.case.name}: columns of padding are not zeros")
        other = problem.with_other_padding()
        if not torch.equal(bench.run(other), bits):
            raise CheckFailedError(f"{problem.case.name}: depends on A's columns of padding")
    return ""


def one_unit_for_all_experts(bench: Bench) -> str:
    """Int8 activations: without global scales a factor of all weights may be in A's scales."""
    if bench.key.a_type != "kS8":
        return "of int8 activations only"
    problem = bench.problem(37, num_experts=1, top_k=1, bias=True)
    bench.checked_run(problem)
    if problem.args.global_scales is None:  # a scale per channel: no factor either way
        factor = torch.tensor([0.75], device=bench.device)
        problem.args.global_scales = factor.data_ptr()
        scaled = problem.with_a_scales(problem.a_scales / 0.75)
    else:
        problem.args.global_scales = None
        scaled = problem.with_a_scales(problem.a_scales * problem.weights.global_scales)
    result = Result(problem.case.name, "special")
    compare(problem, bench.run(scaled), result)
    if result.status != "pass":
        raise CheckFailedError(f"{problem.case.name}: {result.detail}")
    return ""


def _check_spoilt(
    bench: Bench, problem: Problem, bits: torch.Tensor, mine: torch.Tensor, what: str
) -> None:
    """Compares the run of a spoilt problem: `mine` are all elements that are not finite now."""
    expected = bench.checked_run(problem)
    if not torch.equal(bits[~mine], expected[~mine]):
        raise CheckFailedError(f"{problem.case.name}: {what} changed other elements")
    if bool(torch.isfinite(problem.values(bits)[mine]).any()):
        raise CheckFailedError(f"{problem.case.name}: {what} left finite elements")


def not_finite_stays_in_its_token(bench: Bench) -> str:
    """A NaN or an infinity in a row of A, or in its scale, changes no other row."""
    problem = bench.problem(37, num_experts=3)
    for value in (torch.nan, torch.inf, -torch.inf):
        bits = bench.run(problem.with_spoilt_rows([4, 21], value))
        tokens = torch.arange(len(bits), device=bits.device) // problem.case.top_k
        mine = ((tokens == 4) | (tokens == 21))[:, None].expand_as(bits)
        _check_spoilt(bench, problem, bits, mine, f"{value} in two tokens")
    return ""


def not_finite_stays_in_its_expert(bench: Bench) -> str:
    """A NaN or an infinity in an expert's bias changes no other expert's rows."""
    problem = bench.problem(37, num_experts=3, bias=True)
    local = torch.from_numpy(problem.local_expert_of_id)
    for value in (torch.nan, torch.inf, -torch.inf):
        bits = bench.run(problem.with_spoilt_bias(1, value))
        mine = (local.to(bits.device) == 1)[:, None].expand_as(bits)
        _check_spoilt(bench, problem, bits, mine, f"{value} in an expert")
    return ""


def nan_scale_stays_in_its_column(bench: Bench) -> str:
    """A scale of NaN, as its format has it, gives NaN in its expert's column and nowhere else."""
    if bench.key.a_type == "kS8" and not bench.key.per_channel:
        return "scales are integers"
    problem = bench.problem(37, num_experts=3, bias=True)
    local = torch.from_numpy(problem.local_expert_of_id)
    for group, column in ((0, 0), (problem.weights.num_groups - 1, 77)):
        bits = bench.run(problem.with_nan_scale(1, group, column))
        mine = torch.zeros(bits.shape, dtype=torch.bool, device=bits.device)
        mine[local.to(bits.device) == 1, column] = True
        _check_spoilt(bench, problem, bits, mine, "a scale of NaN")
        may_be_infinite = bench.key.s_type == "kFE8M0fnu" and bench.key.a_bits == 8
        if not may_be_infinite and not bool(torch.isnan(problem.values(bits)[mine]).all()):
            raise CheckFailedError(f"{problem.case.name}: a scale of NaN gave infinity")
    return ""


def extreme_operands(bench: Bench) -> str:
    """Sums of the largest activations, codes and scales overflow nothing, however long they are."""
    for k in (256, 2048, 14336):
        bench.checked_run(bench.problem(9, n=128, k=k, extreme=True, num_experts=2))
    return ""


def graph_replay(bench: Bench) -> str:
    """A captured call replays to the same bits."""
    problem = bench.problem(123, bias=True, topk_weights=True)
    expected = bench.checked_run(problem)
    graph = torch.cuda.CUDAGraph()
    problem.poison()
    synchronise(bench.device)
    with torch.cuda.graph(graph):
        problem.args.stream = torch.cuda.current_stream().cuda_stream
        status = bench.library.gemm(problem.args, problem.forced_config())
    if not status.ok:
        raise CheckFailedError(f"captured call: {status.name}: {status.message}")
    synchronise(bench.device)
    if not problem.c_untouched():
        raise CheckFailedError("C was written during capture")
    for _ in range(3):
        problem.poison()
        graph.replay()
        synchronise(bench.device)
        if not torch.equal(problem.output_bits(), expected):
            raise CheckFailedError("a replay differs from the plain call")
    return ""


def two_streams(bench: Bench) -> str:
    """Overlapping calls on two streams, each with its workspace, do not disturb each other."""
    problems = [bench.problem(m, k=2048, seed=m, topk_weights=True) for m in (64, 300)]
    expected = [bench.checked_run(problem) for problem in problems]
    streams = [torch.cuda.Stream() for _ in problems]
    for problem, stream in zip(problems, streams, strict=True):
        problem.args.stream = stream.cuda_stream
    for _ in range(20):
        for problem in problems:
            problem.poison()
        synchronise(bench.device)
        for _ in range(4):
            for problem in problems:
                bench.library.gemm(problem.args, problem.forced_config())
        synchronise(bench.device)
        for problem, bits in zip(problems, expected, strict=True):
            if not torch.equal(problem.output_bits(), bits):
                raise CheckFailedError(f"{problem.case.name}: differs from the call on its own")
    return ""


def in_another_context(bench: Bench) -> str:
    """A kernel that was launched in one context is launched in another one of the same device.

    What CUDA was told of the kernel, as how much shared memory it may have, does not hold there.
    """
    problem = bench.problem(37, bias=True, topk_weights=True)
    expected = bench.checked_run(problem)
    problem.poison()
    operands = {name: tensor.cpu() for name, tensor in problem.operands().items()}
    args = bench.library.Args.from_buffer_copy(problem.args)
    args.stream = None
    synchronise(bench.device)
    with SecondContext() as context:
        for name, tensor in operands.items():
            setattr(args, name, context.copy(tensor))
        for turn in range(2):
            status = bench.library.gemm(args, problem.forced_config())
            if not status.ok:
                raise CheckFailedError(f"launch {turn + 1}: {status.name}: {status.message}")
        bits = context.read(args.c, operands["c"]).view(torch.int16)
    if not torch.equal(bits[: expected.numel()], expected.cpu().flatten()):
        raise CheckFailedError("the output in another context differs")
    if not torch.equal(bench.run(problem), expected):
        raise CheckFailedError("the output differs in the first context afterwards")
    return ""


def repeated_runs(bench: Bench) -> str:
    """A hundred runs give the same bits, where tiles are split over blocks most."""
    for m, n in ((1, 128), (17, 1024), (300, 1024)):
        problem = bench.problem(m, n=n, k=2048)
        expected = bench.checked_run(problem)
        for turn in range(100):
            if not torch.equal(bench.run(problem), expected):
                raise CheckFailedError(
                    f"{problem.case.name}: run {turn + 2} differs from the first"
                )
    return ""


def one_workspace_for_many_shapes(bench: Bench) -> str:
    """A workspace that other shapes have used needs no cleaning."""
    problems = [
        bench.problem(m, n=n, k=k, seed=m)
        for m, n, k in ((666, 1024, 2048), (1, 128, 256), (123, 1024, 256), (17, 128, 2048))
    ]
    expected = [bench.checked_run(problem) for problem in problems]
    size = max(problem.args.workspace_bytes for problem in problems)
    workspace = Guarded(size, bench.device, bench.device)
    workspace.fill(0, torch.uint8)
    for problem in problems:
        problem.use_workspace(workspace)
    for _ in range(3):
        for problem, bits in zip(problems, expected, strict=True):
            if not torch.equal(bench.run(problem), bits):
                raise CheckFailedError(f"{problem.case.name}: differs on a shared workspace")
    return f"{workspace.bytes.numel()} bytes"


def dirty_workspace(bench: Bench) -> str:
    """A workspace that was never zeroed stops no launch, and changes no result."""
    for m, n in ((1, 128), (17, 1024), (300, 1024)):
        problem = bench.problem(m, n=n, k=2048)
        expected = bench.checked_run(problem)
        for byte in (0xFF, 0x01, 0x7F):
            problem.workspace.fill(byte, torch.uint8)
            if not torch.equal(bench.checked_run(problem), expected):
                raise CheckFailedError(f"{problem.case.name}: differs on bytes of {byte:#x}")
    return ""


def _adds_atomically(bench: Bench) -> bool:
    """Whether a kernel with atomic additions was built: sm90 has none."""
    problem = bench.problem(1, block_size=16)
    problem.args.atomic_reduce = 1
    status, _ = bench.library.choose_config(problem.args)
    return not (status.name == "no_kernel" and "atomic_reduce" in status.message)


def surplus_row_blocks(bench: Bench) -> str:
    """Blocks of padding, as of an aligner that gives every expert one, change nothing.

    There are more blocks than ids then, and what tokens there are lies behind the others.
    """
    for m, n, k in ((1, 128, 256), (9, 1024, 2048), (40, 320, 384)):
        for atomic in (0, 1) if not bench.kernel and _adds_atomically(bench) else (0,):
            sizes = {"block_size": 16} if atomic else {}
            problem = bench.problem(m, n=n, k=k, **sizes)
            problem.args.atomic_reduce = atomic
            problem.new_workspace()
            problem.add_empty_blocks(3)
            bench.checked_run(problem)
            if not problem.workspace.intact():
                raise CheckFailedError(f"{problem.case.name}: bytes behind the workspace written")
    return ""


def atomic_reduction(bench: Bench) -> str:
    """Tiles summed by atomic additions are right, whatever the workspace held."""
    if not _adds_atomically(bench):
        return "no kernel with atomic additions was built"
    for m, n, k in ((1, 128, 2048), (17, 1024, 2048), (300, 384, 1024)):
        problem = bench.problem(m, n=n, k=k, bias=True, block_size=16)
        problem.args.atomic_reduce = 1
        problem.new_workspace()
        bench.checked_run(problem)
        for byte in (0xFF, 0x3F):
            problem.workspace.fill(byte, torch.uint8)
            bench.checked_run(problem)
            bench.checked_run(problem)
        if bench.key.c_type == "kBFloat16":
            # Sums that carry 2^-120 are then subnormal numbers, which atomic additions lose.
            small = bench.problem(m, n=n, k=k, block_size=16)
            small.args.atomic_reduce = 1
            small.new_workspace()
            bench.checked_run(small.with_smaller_a(-6))
    return ""


def weights_beyond_4_gib(bench: Bench) -> str:
    """Offsets into B past 2^32 bytes are right."""
    problem = bench.problem(8, n=4096, k=8192, num_experts=272, top_k=8)
    bench.checked_run(problem)
    return f"{problem.weights.b.numel() * 4 / 2**30:.2f} GiB of weights"


def output_beyond_4_gib(bench: Bench) -> str:
    """Offsets into C past 2^31 elements are right."""
    problem = bench.problem(16384, n=17408, k=256, num_experts=8, top_k=8)
    return _check_some_rows(bench, problem)


def activations_beyond_4_gib(bench: Bench) -> str:
    """Offsets into A past 2^31 elements are right."""
    problem = bench.problem(1_100_000, n=128, k=2048, num_experts=8, top_k=1)
    return _check_some_rows(bench, problem)


def _check_some_rows(bench: Bench, problem: Problem) -> str:
    """Launches a problem too large to compare as a whole, and compares rows spread over it."""
    rows = problem.case.m * problem.case.top_k
    ids = np.unique(np.linspace(0, rows - 1, 509).astype(np.int64))
    status = launch(bench.library, problem, None, bench.device)
    if not status.ok:
        raise CheckFailedError(f"{status.name}: {status.message}")
    bits = problem.c.bytes.view(torch.int16).reshape(rows, -1)
    result = Result(problem.case.name, "special")
    compare(problem, bits[torch.from_numpy(ids).to(bits.device)], result, ids)
    check_guards(problem, result)
    if result.status != "pass":
        raise CheckFailedError(result.detail)
    return f"{len(ids)} of {rows} rows compared"


@dataclass(frozen=True)
class _BadInput:
    """One change that makes good arguments bad, and a word that the message has to hold."""

    word: str
    changes: dict[str, Any]
    codes: tuple[str, ...] = ("invalid_argument",)
    config: dict[str, int] | None = None

    def __str__(self) -> str:
        return ", ".join(f"{k} = {v}" for k, v in (self.changes or self.config or {}).items())


def _bad_numbers(args: Any, a_bits: int) -> Iterator[_BadInput]:
    values = {
        "m": [-1],
        "n": [0, -64, 1000, 96],
        "k": [0, -64, 200],
        "num_experts": [0, -1],
        "top_k": [0, -2],
        "block_size": [0, -8, 7, 12, 264],
        "group_size": [48, -2, 1 << 20],
        # Under act-order any number of groups may be right.
        "num_groups": [0] if args.g_idx else [0, args.num_groups + 1],
        "a_stride": [args.k - 16, args.k + 64 // a_bits, 0, -args.k],
    }
    for name, bad in values.items():
        for value in bad:
            codes = ("invalid_argument", "no_kernel") if name == "group_size" else ()
            yield _BadInput(name, {name: value}, codes or ("invalid_argument",))
    yield _BadInput("block_size", {"block_size": 248}, ("no_kernel",))  # of no tile of the tables
    if args.workspace_bytes > 0:
        short = args.workspace_bytes - 1
        yield _BadInput("workspace", {"workspace_bytes": short}, ("insufficient_workspace",))


def _bad_pointers(args: Any) -> Iterator[_BadInput]:
    required = ["a", "b", "scales", "c", *(["workspace"] if args.workspace_bytes else [])]
    required += ["sorted_token_ids", "expert_ids", "num_tokens_past_padded"]
    of_scheme = ("zero_points", "global_scales", "a_scales", "g_idx", "perm")
    given = [name for name in of_scheme if getattr(args, name)]
    codes = ("invalid_argument", "insufficient_workspace")
    optional = ["global_scales"] if args.a_scales else []  # with int8 activations: null is 1
    for name in required + [name for name in given if name not in optional]:
        yield _BadInput(name, {name: None}, codes)
    for name in dict.fromkeys([*required, "workspace", "bias", "topk_weights", *given]):
        yield _BadInput(name, {name: getattr(args, name) + 2}, codes)


def _bad_types(bench: Bench, args: Any) -> Iterator[_BadInput]:
    key, type_id = bench.key, bench.library.type_id
    other = "kBFloat16" if key.c_type == "kFloat16" else "kFloat16"
    elsewhere = "kFE8M0fnu" if key.s_type != "kFE8M0fnu" else other
    for name, wrong in (("a", "kU4"), ("b", "kFloat16"), ("b", "kS8"), ("c", "kU4"), ("s", "kU4")):
        yield _BadInput(f"{name}_type", {f"{name}_type": type_id(wrong)})
    # Types that there are, which no kernel has together.
    for name, unlike in (("c", other), ("s", elsewhere)):
        change = {f"{name}_type": type_id(unlike)}
        yield _BadInput("type", change, ("invalid_argument", "no_kernel"))
    if key.group_size > 0:
        # No scheme has both of these group sizes.
        size = 16 if key.group_size != 16 else 32
        groups = {"group_size": size, "num_groups": args.k // size}
        yield _BadInput("group_size", groups, ("no_kernel",))


def _bad_tiles() -> Iterator[_BadInput]:
    for tile in ((32, 128, 128), (64, 128, 192), (-64, 128, 128)):
        config = dict(zip(("thread_k", "thread_n", "threads"), tile, strict=True))
        yield _BadInput("thread", {}, ("invalid_argument", "no_kernel"), config)


def _refusal_problem(bench: Bench, problem: Problem, bad: _BadInput) -> str:
    """Returns what is wrong with how the library took bad arguments; empty if nothing."""
    args = bench.library.Args.from_buffer_copy(problem.args)
    for name, value in bad.changes.items():
        setattr(args, name, value)
    config = None if bad.config is None else bench.library.config(**bad.config)
    problem.poison()
    status = bench.library.gemm(args, config)
    if status.ok:
        return f"{bad}: accepted"
    if status.name not in bad.codes:
        return f"{bad}: {status.name} ({status.message})"
    if not re.search(rf"(\b|_){bad.word}(\b|_)", status.message):
        return f"{bad}: the message does not name {bad.word} ({status.message})"
    synchronise(bench.device)
    if not problem.c_untouched():
        return f"{bad}: refused, and C was written"
    return ""


def refusals(bench: Bench) -> str:
    """Bad arguments give a status that names them, before anything is launched."""
    problem = bench.problem(17, bias=True, topk_weights=True)
    expected = bench.checked_run(problem)
    bad_inputs = [
        *_bad_numbers(problem.args, bench.key.a_bits),
        *_bad_types(bench, problem.args),
        *_bad_tiles(),
        *_bad_pointers(problem.args),
    ]
    problems = []
    for bad in bad_inputs:
        wrong = _refusal_problem(bench, problem, bad)
        if wrong:
            problems.append(wrong)
        if wrong.endswith("accepted") and None in bad.changes.values():
            break  # a launch through a null pointer leaves no usable device
    if problems:
        raise CheckFailedError("; ".join(problems))
    if not torch.equal(bench.run(problem), expected):
        raise CheckFailedError("a good call after the refusals differs")
    return f"{len(bad_inputs)} refused"


# Those that are about one kernel as well as about the library's choice.
_OF_KERNEL: list[Callable[[Bench], str]] = [
    no_local_experts,
    numbers_out_of_range,
    parallel_flag_changes_nothing,
    ids_in_any_order,
    padded_shards,
    not_finite_stays_in_its_token,
    not_finite_stays_in_its_expert,
    nan_scale_stays_in_its_column,
    repeated_runs,
    one_workspace_for_many_shapes,
    dirty_workspace,
    surplus_row_blocks,
]
_SMALL: list[Callable[[Bench], str]] = [
    *_OF_KERNEL,
    no_tokens,
    every_block_size,
    one_group_is_a_scale_per_channel,
    one_unit_for_all_experts,
    extreme_operands,
    atomic_reduction,
    refusals,
]
_ON_GPU: list[Callable[[Bench], str]] = [graph_replay, two_streams, in_another_context]
_LARGE: list[Callable[[Bench], str]] = [
    weights_beyond_4_gib,
    output_beyond_4_gib,
    activations_beyond_4_gib,
]


# (name of a check, label for the report, weights it is about, kernel that has to run).
Planned = tuple[str, str, WeightKey, Kernel | None]


def _sm90_ends(kernels: dict[Kernel, str]) -> list[tuple[Kernel, str]]:
    """Returns the kernels of sm90 with the fewest and the most rows of each scheme and types."""
    groups: dict[tuple[str, ...], list[Kernel]] = {}
    for kernel, scheme in kernels.items():
        if kernel.is_sm90:
            groups.setdefault((scheme, *kernel.types), []).append(kernel)
    ends = []
    for (scheme, *_), members in groups.items():
        members.sort(key=lambda kernel: kernel.block_size)
        ends += [(kernel, scheme) for kernel in dict.fromkeys((members[0], members[-1]))]
    return ends


def plan_special(kernels: dict[Kernel, str], device: str) -> list[Planned]:
    """Returns the special checks to run.

    The small ones run for each scheme and types, and for act-order; the large ones once. Those of a
    kernel run with kernels of sm90 as well, which the library seldom chooses for small problems.
    Atomic additions are also about scales per channel, which sums lack until they are finished.
    """
    keys: dict[tuple[Any, ...], WeightKey] = {}
    for kernel, scheme in kernels.items():
        combination = Combination.of(kernel, scheme)
        keys[scheme, *kernel.types, kernel.group_blocks == 0] = combination.key(1024, 256, 64)
    per_channel = dict.fromkeys(
        Combination.of(kernel, scheme).key(1024, 256)
        for kernel, scheme in kernels.items()
        if kernel.group_blocks == GROUP_CHANNEL and not kernel.is_sm90
    )
    on_gpu = [] if device == "cpu" else _ON_GPU
    plan: list[Planned] = []
    for key in keys.values():
        for check in _SMALL + on_gpu:
            plan.append((check.__name__, f"{check.__name__} {key.label}", key, None))
    for key in per_channel:
        if key not in keys.values():
            name = atomic_reduction.__name__
            plan.append((name, f"{name} {key.label}", key, None))
    for kernel, scheme in _sm90_ends(kernels):
        key = Combination.of(kernel, scheme).key(1024, 256, 64)
        for check in _OF_KERNEL + on_gpu:
            rows = f"sm90 {kernel.block_size}x{kernel.thread_n}"
            plan.append((check.__name__, f"{check.__name__} {key.label} {rows}", key, kernel))
    if device != "cpu":
        first = next(iter(keys.values()))
        for check in _LARGE:
            plan.append((check.__name__, f"{check.__name__} {first.label}", first, None))
    return plan


def run_special(library: MoeGemmLibrary, planned: Planned, device: str) -> Result:
    """Runs one planned check."""
    name, label, key, kernel = planned
    check = {check.__name__: check for check in _SMALL + _ON_GPU + _LARGE}[name]
    result = new_result(label, "special", key)
    try:
        result.detail = check(Bench(library, device, key, kernel))
    except CheckFailedError as failure:
        result.complain(str(failure))
    return result
