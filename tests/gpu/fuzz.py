"""Random argument sets for the MoE GEMM: each has to be refused cleanly or give the right result.

A set is a random small problem with up to three changes. Every change is known to make the
arguments bad, or to be harmless, or to leave both to the library; so a bad set that is accepted is
found as surely as a good one that is refused. Changes that would make the call read other memory
than it was given, which no library can know, are not drawn. A set depends on the seed and its
number alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cases
import torch
from cases import GROUP_ACT_ORDER, GROUP_CHANNEL, Case, Combination, Kernel
from checks import Result, check_guards, compare, new_result, synchronise
from moe_gemm_lib import MoeGemmLibrary, Status
from number_formats import VALUES
from operands import TYPE_FIELDS, Problem
from weights import DTYPES, Weights

_SETS_PER_WEIGHTS = 40
_SETS_PER_PROBLEM = 4
_EXPERTS = 6
_N = (64, 128, 192, 256, 320)
_K = (64, 128, 192, 256, 320, 384)
_M = (0, 1, 2, 3, 5, 8, 17, 33, 70)
_TILES = ((64, 128, 128), (64, 256, 256), (128, 128, 256), (128, 64, 128))
_INT32_MAX = 2**31 - 1
_TYPE_NAMES = tuple(dict.fromkeys((*DTYPES, *VALUES)))

# What a change makes of good arguments.
BAD, HARMLESS, EITHER = "bad", "harmless", "either"


@dataclass
class Change:
    """One change of the arguments or the configuration.

    `word` is what a refusal for an EITHER change has to name. `workspace` gives the size of the
    workspace by the size that is needed, once that is known.
    """

    verdict: str
    fields: dict[str, Any] = field(default_factory=dict)
    config: dict[str, int] | None = None
    word: str = ""
    workspace: Callable[[int], int] | None = None

    def __str__(self) -> str:
        what = self.fields or self.config or "size of the workspace"
        return f"{self.verdict} {what}"


@dataclass
class Context:
    """What the changes of a set are drawn from.

    That is the good arguments, and the kernels that the library may choose among.
    """

    rng: random.Random
    library: MoeGemmLibrary
    problem: Problem
    kernels: frozenset[Kernel]
    types: frozenset[tuple[str, ...]]

    @property
    def past_shape(self) -> str:
        """The verdict on what is bad, unless it is not looked at for m = 0."""
        return BAD if self.problem.case.m else EITHER


def _not_multiple(rng: random.Random, of: int) -> int:
    return rng.choice((0, -of, -rng.randrange(1, 2**31), rng.randrange(4096) * of + of // 2, 1))


def _dimension(context: Context) -> Change:
    rng, args = context.rng, context.problem.args
    negative = -rng.randrange(1, 2**31)
    name, value = rng.choice(
        (
            ("m", rng.choice((-1, negative, 2**30, rng.randrange(2**30, 2**31)))),
            ("n", _not_multiple(rng, 64)),
            ("k", _not_multiple(rng, 64)),
            ("num_experts", rng.choice((0, negative))),
            ("top_k", rng.choice((0, negative))),
            ("block_size", rng.choice((0, negative, 1, 12, 264, 7, args.block_size + 1))),
        )
    )
    return Change(BAD, {name: value})


def _stride(context: Context) -> Change:
    rng, args, chunk = context.rng, context.problem.args, 128 // context.problem.case.weights.a_bits
    below = args.k - rng.randrange(1, args.k)
    beside = args.a_stride + rng.randrange(1, chunk)
    value = rng.choice((0, below, beside, -args.a_stride, -(2**63)))
    return Change(context.past_shape, {"a_stride": value}, word="a_stride")


def _groups(context: Context) -> Change | None:
    rng, args = context.rng, context.problem.args
    if rng.random() < 0.3:
        return _group_count(context)
    size = rng.choice((-5, -2, 1, 8, 15, 24, 256, 2**20, -(2**31), -1, 0, 16, 32, 64, 128))
    if size == args.group_size:
        return None
    change = {"group_size": size}
    if size == GROUP_ACT_ORDER:
        return Change(context.past_shape, change, word="g_idx")
    if size == GROUP_CHANNEL:
        return None if args.num_groups == 1 else Change(BAD, change)
    if size > 0 and args.num_groups * size == args.k:
        return None  # the same bytes, with another meaning
    return Change(BAD, change)


def _group_count(context: Context) -> Change:
    rng, args = context.rng, context.problem.args
    values = [0, -1, -rng.randrange(1, 2**31), args.k + 1, _INT32_MAX]
    if args.group_size != GROUP_ACT_ORDER:
        values += [args.num_groups + 1, args.num_groups * 2]
    return Change(BAD, {"num_groups": rng.choice(values)})


def _types(context: Context) -> Change | None:
    rng, key, type_id = context.rng, context.problem.case.weights, context.library.type_id
    names = {name: getattr(key, name) for name in TYPE_FIELDS}
    changed = rng.sample(TYPE_FIELDS, rng.choice((1, 1, 2, 4)))
    if rng.random() < 0.2:
        fields = {name: rng.getrandbits(63) - 2**62 for name in changed}
        return Change(context.past_shape, fields, word="type")
    drawn = {name: rng.choice(_TYPE_NAMES) for name in changed}
    if tuple((names | drawn).values()) in context.types:
        return None
    fields = {name: type_id(value) for name, value in drawn.items()}
    return Change(context.past_shape, fields, word="")


_ALIGNMENTS = {
    "a": 16,
    "a_scales": 4,
    "b": 16,
    "scales": 16,
    "zero_points": 16,
    "global_scales": 4,
    "bias": 16,
    "g_idx": 16,
    "perm": 16,
    "topk_weights": 4,
    "sorted_token_ids": 4,
    "expert_ids": 4,
    "num_tokens_past_padded": 4,
    "c": 16,
    "workspace": 256,
}
_OPTIONAL = ("bias", "topk_weights")


def _pointer(context: Context) -> Change:
    """A null or misaligned pointer that is used, or rubbish in one that is not."""
    rng, args = context.rng, context.problem.args
    name = rng.choice(list(_ALIGNMENTS))
    address = getattr(args, name)
    if name == "global_scales" and context.problem.case.weights.a_type == "kS8":
        misaligned = (address or 2**20) + rng.randrange(1, 4)  # null is 1, which is another result
        return Change(context.past_shape, {name: misaligned}, word=name)
    if address is None:
        if name in _OPTIONAL:
            misaligned = rng.randrange(2**20) * 16 + 1
            return Change(context.past_shape, {name: misaligned}, word=name)
        return Change(HARMLESS, {name: rng.choice((1, 16, rng.getrandbits(48)))})
    if rng.random() < 0.5:
        if name in _OPTIONAL:
            return Change(HARMLESS, {name: None})
        return Change(context.past_shape, {name: None}, word=name)
    shift = rng.randrange(1, _ALIGNMENTS[name])
    return Change(context.past_shape, {name: address + shift}, word=name)


def _workspace(context: Context) -> Change:
    rng = context.rng
    if rng.random() < 0.3:
        spare = rng.getrandbits(rng.randrange(1, 62))
        return Change(HARMLESS, workspace=lambda needed: needed + spare)
    share = rng.choice((0.0, 1e-5, 1.0, rng.random()))
    return Change(
        context.past_shape,
        word="workspace",
        workspace=lambda needed: max(0, min(needed - 1, int(share * needed))),
    )


def _config(context: Context) -> Change:
    rng, problem = context.rng, context.problem
    tiles = sorted({*_TILES, *(kernel.tile for kernel in context.kernels)})
    config = dict(zip(("thread_k", "thread_n", "threads"), rng.choice(tiles), strict=True))
    config["blocks_per_sm"] = rng.choice((0, 0, 1, 1, 2, 3, 4, 100, -1, -_INT32_MAX))
    config["stripe_slack"] = rng.choice((-1, -1, 0, 1, 7, 1000, _INT32_MAX, -2, -_INT32_MAX))
    config["gather_first"] = rng.choice((-1, -1, 0, 0, 1, 1, 2, -2, _INT32_MAX))
    if rng.random() < 0.4:
        config[rng.choice(list(config)[:3])] = rng.choice((0, -64, 32, 96, 192, 512, _INT32_MAX))
    if tuple(config.values())[:3] not in tiles:
        return Change(BAD, config=config)
    kernel = problem.kernel(context.library.config(**config))
    found = [
        other
        for other in context.kernels
        if replace(other, blocks_per_sm=0) == replace(kernel, blocks_per_sm=0)
        and other.stages_cover(problem.args.k)
    ]
    if not found:
        return Change(context.past_shape, config=config)
    if config["blocks_per_sm"] < 0 or config["stripe_slack"] < -1:
        return Change(context.past_shape, config=config)
    if kernel.is_sm90 and config["stripe_slack"] > 0:
        return Change(context.past_shape, config=config)
    most_gather = 1 if kernel.takes_staged_a else 0
    if not -1 <= config["gather_first"] <= most_gather:
        return Change(context.past_shape, config=config)
    if config["blocks_per_sm"] > 0:
        return Change(EITHER, config=config, word="blocks_per_sm")
    return Change(HARMLESS, config=config)


def _flags(context: Context) -> Change:
    if context.rng.random() < 0.5:
        return Change(HARMLESS, {"stream": None})
    return Change(HARMLESS, {"expert_parallel": 1 - context.problem.args.expert_parallel})


def _atomic(context: Context) -> Change:
    """Sums by atomic additions, which kernels of sm90 do not have."""
    problem = context.problem
    others = {kernel for kernel in context.kernels if not kernel.is_sm90}
    found = cases.serves(others, problem.kernel(context.library.config()), problem.args.k)
    return Change(HARMLESS if found else EITHER, {"atomic_reduce": 1})


# Of one row at most one change is drawn: two of them could make good arguments of bad ones.
_CHANGES: tuple[tuple[Callable[[Context], Change | None], ...], ...] = (
    (_dimension, _groups, _types, _pointer),
    (_stride,),
    (_workspace,),
    (_config, _config, _config, _atomic),
    (_flags,),
)
_CHANGE_WEIGHTS = (10, 2, 3, 5, 2)


class Fuzzer:
    """Draws and runs argument sets by number; neighbours share weights and problems.

    Problems are those that the kernels `drawn` serve; what the library makes of them is foretold
    from the kernels `usable`, all that it may choose among.
    """

    def __init__(
        self,
        library: MoeGemmLibrary,
        drawn: dict[Kernel, str],
        usable: dict[Kernel, str],
        seed: int,
        device: str,
        home: str,
    ) -> None:
        self._library = library
        self._usable = frozenset(usable)
        self._types = frozenset(kernel.types for kernel in usable)
        self._combinations = cases.combinations(drawn, usable)
        self._block_sizes = cases.block_sizes(drawn)
        self._seed = seed
        self._device = device
        self._home = home
        self._weights: tuple[int, Weights] | None = None
        self._problem: tuple[int, Problem] | None = None

    def _rng(self, what: str, number: int) -> random.Random:
        return random.Random(f"{self._seed} {what} {number}")

    def _shared_weights(self, number: int) -> Weights:
        if self._weights is None or self._weights[0] != number:
            rng = self._rng("weights", number)
            scheme = rng.choice(list(dict.fromkeys(c.scheme for c in self._combinations)))
            combination = rng.choice([c for c in self._combinations if c.scheme == scheme])
            shapes = [(n, k) for n in _N for k in _K if _fits(combination, k)]
            key = combination.random_key(rng, *rng.choice(shapes))
            if rng.random() < 0.3:
                key = replace(key, pad_n=rng.randrange(64), pad_k=rng.randrange(64))
            made = Weights(key, _EXPERTS, self._device, self._home, rng.getrandbits(30))
            self._weights = number, made
        return self._weights[1]

    def _shared_problem(self, number: int) -> Problem:
        if self._problem is None or self._problem[0] != number:
            weights = self._shared_weights(number * _SETS_PER_PROBLEM // _SETS_PER_WEIGHTS)
            rng = self._rng("problem", number)
            case = _random_case(rng, weights, self._block_sizes[weights.key.types])
            problem = Problem(self._library, case, weights, self._device, self._home)
            if case.m and rng.random() < 0.4:
                _align_otherwise(rng, problem)
            self._problem = number, problem
        return self._problem[1]

    def run(self, number: int) -> Result:
        """Runs one set; the result is pass or refused, or fail."""
        problem = self._shared_problem(number // _SETS_PER_PROBLEM)
        rng = self._rng("set", number)
        context = Context(rng, self._library, problem, self._usable, self._types)
        return _Trial(context, _draw_changes(context), self._device).run(number)


def _align_otherwise(rng: random.Random, problem: Problem) -> None:
    """Writes the blocks as other aligners do: any padding, any expert elsewhere, empty blocks."""
    ids = problem.case.m * problem.case.top_k
    padding = [rng.choice((-1, ids, ids + 1, _INT32_MAX, -_INT32_MAX)) for _ in range(3)]
    elsewhere = (-1, -2, problem.args.num_experts, _INT32_MAX, -_INT32_MAX)
    no_expert = [rng.choice(elsewhere) for _ in range(3)]
    problem.renumber(padding, no_expert, rng.choice((0, 0, 1, 3)), rng.random() < 0.5)


def _fits(combination: Combination, k: int) -> bool:
    return bool(combination.group_lengths(k))


def _random_case(rng: random.Random, weights: Weights, block_sizes: Sequence[int]) -> Case:
    key, parts = weights.key, rng.choice((1, 1, 2))
    experts = rng.randrange(1, _EXPERTS + 1)
    return Case(
        kind="fuzz",
        weights=key,
        m=rng.choice(_M),
        num_experts=experts * parts,
        top_k=rng.randrange(1, 4),
        seed=rng.getrandbits(30),
        parts=parts,
        flag_parallel=rng.random() < 0.5,
        routing=rng.choice(("uniform", "uniform", "one", "half")),
        bias=rng.random() < 0.5,
        topk_weights=rng.random() < 0.5,
        block_size=rng.choice((0, *key.block_sizes, *block_sizes)),
        a_padding=rng.choice((0, 0, 128 // key.a_bits, 400)),
    )


def _draw_changes(context: Context) -> list[Change]:
    rng = context.rng
    rows: list[int] = []
    for _ in range(rng.choices((0, 1, 2, 3), (20, 55, 20, 5))[0]):
        row = rng.choices(range(len(_CHANGES)), _CHANGE_WEIGHTS)[0]
        if row not in rows:
            rows.append(row)
    changes = [rng.choice(_CHANGES[row])(context) for row in rows]
    return [change for change in changes if change is not None]


class _Trial:
    """One call with changed arguments, and the judgement on its outcome."""

    def __init__(self, context: Context, changes: list[Change], device: str) -> None:
        self._library = context.library
        self._problem = context.problem
        self._changes = changes
        self._device = device
        self._args = context.library.Args.from_buffer_copy(context.problem.args)
        self._config = None
        for change in changes:
            for name, value in change.fields.items():
                setattr(self._args, name, value)
            if change.config is not None:
                self._config = context.library.config(**change.config)
        self._take_workspace()
        if context.rng.random() < 0.3:
            self._problem.workspace.fill(context.rng.choice((0xFF, 0x01, 0x7F)), torch.uint8)
        self._verdict = self._expected(context)

    def _take_workspace(self) -> None:
        """Gives the changed call a workspace of just its size, then applies changes of that.

        Where no bytes are needed, a workspace cannot be too small, and may be null.
        """
        before = self._problem.args.workspace
        self._problem.new_workspace(self._config, self._args)
        args, fresh = self._args, self._problem.args
        if args.workspace is not None:
            args.workspace += fresh.workspace - before
        needed = args.workspace_bytes = fresh.workspace_bytes
        for change in self._changes:
            if change.workspace is not None:
                args.workspace_bytes = change.workspace(needed)
                change.verdict = change.verdict if needed else HARMLESS
        for change in self._changes:
            if change.fields.get("workspace", before) is None and args.workspace_bytes == 0:
                change.verdict = change.verdict if needed else HARMLESS

    def _expected(self, context: Context) -> str:
        verdicts = {change.verdict for change in self._changes}
        if BAD in verdicts:
            return BAD
        case, args = self._problem.case, self._problem.args
        wanted = self._problem.kernel(context.library.config())
        served = cases.serves(context.kernels, wanted, args.k)
        if not served and case.m and self._config is None:
            return BAD
        return EITHER if EITHER in verdicts else HARMLESS

    def run(self, number: int) -> Result:
        case = self._problem.case
        named = f"fuzz {number} {case.name} | {'; '.join(map(str, self._changes)) or 'unchanged'}"
        result = new_result(named, "fuzz", case.weights)
        self._problem.poison()
        sized, _ = self._library.workspace_size(self._args, self._config)
        status = self._library.gemm(self._args, self._config)
        synchronise(self._device)
        if status.ok:
            self._judge_output(result)
            if not sized.ok:
                result.complain(f"accepted, and workspace_size() says {sized.message}")
        else:
            self._judge_refusal(status, result)
        check_guards(self._problem, result)
        return result

    def _judge_refusal(self, status: Status, result: Result) -> None:
        result.status, result.detail = "refused", f"{status.name}: {status.message}"
        told = f"{status.name}: {status.message}"
        if status.name not in ("invalid_argument", "insufficient_workspace", "no_kernel"):
            result.complain(told)
        if self._verdict == HARMLESS:
            result.complain(f"good arguments were refused: {told}")
        if not status.message:
            result.complain("a refusal without a message")
        if self._verdict == EITHER and not any(
            word in status.message for word in self._words_allowed()
        ):
            result.complain(f"refused for another reason than the changes: {told}")
        if not self._problem.c_untouched():
            result.complain("C was written by a refused call")

    def _words_allowed(self) -> list[str]:
        return [change.word for change in self._changes if change.verdict == EITHER]

    def _judge_output(self, result: Result) -> None:
        if self._verdict == BAD:
            result.complain("bad arguments were accepted")
            return
        problem = self._problem
        if problem.case.m == 0:
            if not problem.c_untouched():
                result.complain("m = 0 wrote to C")
            return
        dropped = {name for name in _OPTIONAL if getattr(self._args, name) is None}
        compare(problem.without(dropped), problem.output_bits(), result)
