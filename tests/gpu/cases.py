"""The cases of the MoE GEMM's acceptance run: which problems, with which forced kernels.

Planning is pure: the same manifest, seed and count give the same cases in the same order. Cases
that share weights stand together, so that weights are made once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

GROUP_CHANNEL = -1
GROUP_ACT_ORDER = 0

BLOCK_SIZES = (8, 16, 32, 48, 64)
# Schemes whose operands operands.py can make.
SCHEMES = ("awq_int4", "gptq_int4")

_GRID_M = (1, 17, 123, 666)
_GRID_N = (128, 1024, 2880)
_GRID_K = (256, 2048)
_GRID_EXPERTS = (5, 12, 64)
_GRID_TOP_K = (1, 2, 8)
_GRID_PARTS = (1, 4)
_DENSE_M = (1, 2, 3, 4, 8, 12, 16, 24, 32, 48, 64, 118, 128, 152, 768, 1024)
_DENSE_K = (64, 128, 192, *(704 + 64 * i for i in range(10)))
_DENSE_N = (64, 128, 256, 384, 1024)
_ACT_ORDER_LENGTHS = (32, 64, 128)


@dataclass(frozen=True)
class Kernel:
    """One instantiation, in the terms of the manifest."""

    a_type: str
    b_type: str
    c_type: str
    s_type: str
    threads: int
    thread_m_blocks: int
    thread_n_blocks: int
    thread_k_blocks: int
    m_block_size_8: bool
    group_blocks: int

    @property
    def block_size(self) -> int:
        return 8 if self.m_block_size_8 else 16 * self.thread_m_blocks

    @property
    def tile(self) -> tuple[int, int, int]:
        """(thread_k, thread_n, threads)."""
        return 16 * self.thread_k_blocks, 16 * self.thread_n_blocks, self.threads


@dataclass(frozen=True)
class WeightKey:
    """What a set of weights depends on.

    `group_size` is the API's: -1 per channel, 0 act-order; `group_length` is the number of rows
    that really share a scale.
    """

    scheme: str
    a_type: str
    group_size: int
    group_length: int
    n: int
    k: int


@dataclass(frozen=True)
class Case:
    """One problem, and optionally the kernel that has to solve it.

    Attributes:
      kind: grid, dense, forced or a special name, for the report.
      num_experts: experts over all devices; `parts` devices share them.
      local: which experts are this device's: first, last, middle or spread.
      flag_parallel: the API's expert_parallel, also where no block is -1.
      routing: uniform, one (all tokens take the same experts) or half (half of them get none).
      block_size: 0 takes the library's choice.
      tile: (thread_k, thread_n, threads) to force, or None for the library's choice.
      a_padding: elements between the end of a row of A and the start of the next.
    """

    kind: str
    weights: WeightKey
    m: int
    num_experts: int
    top_k: int
    seed: int
    parts: int = 1
    local: str = "spread"
    flag_parallel: bool = False
    routing: str = "uniform"
    bias: bool = False
    topk_weights: bool = False
    block_size: int = 0
    tile: tuple[int, int, int] | None = None
    blocks_per_sm: int = 0
    stripe_slack: int = -1
    a_padding: int = 0

    @property
    def local_experts(self) -> int:
        return max(1, self.num_experts // self.parts)

    @property
    def name(self) -> str:
        key = self.weights
        words = [
            self.kind,
            key.scheme,
            key.a_type[1:].lower(),
            "act" + str(key.group_length) if key.group_size == 0 else "g" + str(key.group_size),
            f"m{self.m} n{key.n} k{key.k} e{self.num_experts} top{self.top_k}",
            f"block{self.block_size or '*'}",
        ]
        if self.parts > 1:
            words.append(
                f"ep{self.parts}-{self.local}" + ("" if self.flag_parallel else "-unflagged")
            )
        if self.routing != "uniform":
            words.append(f"route-{self.routing}")
        if self.tile:
            words.append("tile" + "x".join(map(str, self.tile)))
            words.append(f"per_sm{self.blocks_per_sm} slack{self.stripe_slack}")
        words += [w for w, on in (("bias", self.bias), ("weights", self.topk_weights)) if on]
        if self.a_padding:
            words.append(f"stride+{self.a_padding}")
        return " ".join(words)


def read_manifest(path: str, family: str) -> dict[Kernel, str]:
    """Returns the scheme of each built kernel of a family that the tests can make operands for."""
    with open(path, encoding="utf-8") as file:
        rows = json.load(file)["instantiations"]
    kernels = {}
    for row in rows:
        schemes = [scheme for scheme in row["schemes"] if scheme in SCHEMES]
        if row["family"] == family and schemes:
            fields = {field: row[field] for field in Kernel.__dataclass_fields__}
            kernels[Kernel(**fields)] = schemes[0]
    if not kernels:
        raise ValueError(f"{path}: no kernel of family {family} for any of {', '.join(SCHEMES)}")
    return kernels


def coverage(results: Sequence[dict[str, Any]], built: dict[Kernel, str]) -> list[Kernel]:
    """Returns the built kernels that no passing result launched."""
    launched = {
        Kernel(**result["kernel"])
        for result in results
        if result["kernel"] is not None and result["status"] == "pass"
    }
    return [kernel for kernel in built if kernel not in launched]


def group_lengths(group_blocks: int, k: int) -> Sequence[int]:
    """Returns the lengths of groups that kernels of some group_blocks serve, for K rows."""
    if group_blocks == GROUP_CHANNEL:
        return (k,)
    lengths = _ACT_ORDER_LENGTHS if group_blocks == GROUP_ACT_ORDER else (16 * group_blocks,)
    return [length for length in lengths if k % length == 0]


def _weight_key(
    rng: random.Random, scheme: str, a_type: str, group_blocks: int, n: int, k: int
) -> WeightKey:
    length = rng.choice(group_lengths(group_blocks, k))
    size = group_blocks if group_blocks <= 0 else 16 * group_blocks
    return WeightKey(scheme, a_type, size, length, n, k)


def _grid_case(rng: random.Random, key: WeightKey) -> Case:
    parts = rng.choice(_GRID_PARTS)
    return Case(
        kind="grid",
        weights=key,
        m=rng.choice(_GRID_M),
        num_experts=rng.choice(_GRID_EXPERTS),
        top_k=rng.choice(_GRID_TOP_K),
        seed=rng.getrandbits(30),
        parts=parts,
        local=rng.choice(("first", "last", "middle", "spread")),
        flag_parallel=rng.random() < (0.75 if parts > 1 else 0.1),
        routing=rng.choices(("uniform", "one", "half"), (6, 1, 1))[0],
        bias=rng.random() < 0.5,
        topk_weights=rng.random() < 0.5,
        block_size=rng.choice((0, 0, 0, *BLOCK_SIZES)),
        a_padding=rng.choice((0, 0, 0, 8, 200)),
    )


def _dense_case(rng: random.Random, key: WeightKey) -> Case:
    return Case(
        kind="dense",
        weights=key,
        m=rng.choice(_DENSE_M),
        num_experts=1,
        top_k=1,
        seed=rng.getrandbits(30),
        bias=rng.random() < 0.5,
        topk_weights=rng.random() < 0.25,
        block_size=rng.choice((0, 0, 0, *BLOCK_SIZES)),
    )


def _forced_case(rng: random.Random, kernel: Kernel, key: WeightKey) -> Case:
    """A problem that only the given kernel may solve, with blocks both full and partly filled."""
    return Case(
        kind="forced",
        weights=key,
        m=rng.choice((kernel.block_size + 3, 123, 300)),
        num_experts=rng.choice((5, 12)),
        top_k=rng.choice((1, 2)),
        seed=rng.getrandbits(30),
        bias=rng.random() < 0.5,
        topk_weights=rng.random() < 0.5,
        block_size=kernel.block_size,
        tile=kernel.tile,
        blocks_per_sm=rng.choice((0, 0, 1, 2)),
        stripe_slack=rng.choice((-1, -1, 0, 1, 4, 1000)),
    )


def valid_shape(n: int, k: int) -> bool:
    """Whether N and K are within the contract: 64 divides both, and 128 one of them."""
    return n % 64 == 0 and k % 64 == 0 and (n % 128 == 0 or k % 128 == 0)


def _sampled(
    rng: random.Random, combination: tuple[str, str, int], per_combination: int
) -> Iterator[Case]:
    for i in range(per_combination):
        n = _GRID_N[i % len(_GRID_N)]
        k = _GRID_K[i // len(_GRID_N) % len(_GRID_K)]
        yield _grid_case(rng, _weight_key(rng, *combination, n, k))
    shapes = [
        (n, k)
        for n in _DENSE_N
        for k in _DENSE_K
        if valid_shape(n, k) and group_lengths(combination[2], k)
    ]
    for n, k in rng.sample(shapes, min(len(shapes), -(-per_combination // 2))):
        yield _dense_case(rng, _weight_key(rng, *combination, n, k))


def plan(kernels: dict[Kernel, str], seed: int, per_combination: int) -> list[Case]:
    """Returns the cases for the kernels that were built.

    Args:
      kernels: the scheme of each kernel, as read_manifest() returns it.
      seed: of the sample.
      per_combination: grid cases for each scheme, type and group size; half as many dense ones.
    """
    rng = random.Random(seed)
    cases = []
    combinations = {(s, kernel.a_type, kernel.group_blocks): None for kernel, s in kernels.items()}
    for combination in combinations:
        cases += _sampled(rng, combination, per_combination)
    for kernel, scheme in kernels.items():
        for k in _GRID_K:
            key = _weight_key(rng, scheme, kernel.a_type, kernel.group_blocks, 1024, k)
            cases.append(_forced_case(rng, kernel, key))
    return sorted(cases, key=_weight_order)


def _weight_order(case: Case) -> tuple[str, str, int, int, int, int]:
    key = case.weights
    return key.scheme, key.a_type, key.group_size, key.group_length, key.k, key.n
