"""The cases of the MoE GEMM's acceptance run: which problems, with which forced kernels.

Planning is pure: the same manifest, seed and count give the same cases in the same order. Cases
that share weights stand together, so that weights are made once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

GROUP_CHANNEL = -1
GROUP_ACT_ORDER = 0

BLOCK_SIZES = (8, 16, 32, 48, 64)
# Of 8-bit activations.
BLOCK_SIZES_A8 = (16, 32, 48, 64)
_A8_TYPES = ("kS8", "kFE4M3fn")
# Of a block of the family sm90, and of no other.
SM90_THREADS = 384

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
    """One instantiation, in the terms of the API.

    `blocks_per_sm` is what a kernel of sm90 was compiled for, 0 for other families.
    """

    a_type: str
    b_type: str
    c_type: str
    s_type: str
    block_size: int
    thread_k: int
    thread_n: int
    threads: int
    blocks_per_sm: int
    group_blocks: int

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Kernel:
        """Returns the kernel of an instantiation of the manifest."""
        names = ("a_type", "b_type", "c_type", "s_type", "group_blocks")
        common = {name: row[name] for name in names}
        if row["family"] == "sm90":
            return cls(
                **common,
                block_size=row["block_rows"],
                thread_k=128 if row["a_type"] in _A8_TYPES else 64,
                thread_n=row["thread_n"],
                threads=SM90_THREADS,
                blocks_per_sm=row["blocks_per_sm"],
            )
        return cls(
            **common,
            block_size=8 if row["m_block_size_8"] else 16 * row["thread_m_blocks"],
            thread_k=16 * row["thread_k_blocks"],
            thread_n=16 * row["thread_n_blocks"],
            threads=row["threads"],
            blocks_per_sm=0,
        )

    @property
    def is_sm90(self) -> bool:
        return self.threads == SM90_THREADS

    @property
    def takes_staged_a(self) -> bool:
        """Whether rows of A may be gathered before the GEMM (Sm90Tile::takes_staged_a())."""
        return self.is_sm90 and self.block_size >= 96

    @property
    def types(self) -> tuple[str, str, str, str]:
        """(a_type, b_type, c_type, s_type)."""
        return self.a_type, self.b_type, self.c_type, self.s_type

    @property
    def tile(self) -> tuple[int, int, int]:
        """(thread_k, thread_n, threads)."""
        return self.thread_k, self.thread_n, self.threads

    def stages_cover(self, k: int) -> bool:
        """Whether the kernel serves K rows of B."""
        return self.is_sm90 or k % self.thread_k == 0


@dataclass(frozen=True)
class WeightKey:
    """What a set of weights depends on.

    `group_size` is the API's: -1 per channel, 0 act-order; `group_length` is the number of rows
    that really share a scale. `extreme`: codes, scales and activations are as large as they get.
    `pad_n`, `pad_k`: the last columns and rows that are zeros, as preparation pads a shard.
    """

    scheme: str
    a_type: str
    b_type: str
    c_type: str
    s_type: str
    group_size: int
    group_length: int
    n: int
    k: int
    extreme: bool = False
    pad_n: int = 0
    pad_k: int = 0

    @property
    def types(self) -> tuple[str, str, str, str]:
        """(a_type, b_type, c_type, s_type)."""
        return self.a_type, self.b_type, self.c_type, self.s_type

    @property
    def a_bits(self) -> int:
        return 8 if self.a_type in _A8_TYPES else 16

    @property
    def per_channel(self) -> bool:
        """Whether kernels have one scale per channel: so they do with one group of any size."""
        return self.group_size == GROUP_CHANNEL or self.group_length == self.k

    @property
    def block_sizes(self) -> tuple[int, ...]:
        return BLOCK_SIZES if self.a_bits == 16 else BLOCK_SIZES_A8

    @property
    def label(self) -> str:
        """Scheme and types, and how scales are shared."""
        types = spelled(self.a_type)
        if self.a_bits == 8:
            types += "-" + spelled(self.c_type)
        shared = f"g{self.group_size}" if self.group_size else f"act{self.group_length}"
        padding = f" pad{self.pad_n}x{self.pad_k}" if self.pad_n or self.pad_k else ""
        return f"{self.scheme} {types} {shared}{padding}" + (" extreme" if self.extreme else "")


@dataclass(frozen=True)
class Combination:
    """What the kernels of one kind have in common beside their tile.

    `one_group`: whether kernels of these types with a scale per channel were built as well, which a
    single group takes.
    """

    scheme: str
    a_type: str
    b_type: str
    c_type: str
    s_type: str
    group_blocks: int
    one_group: bool = True

    @classmethod
    def of(cls, kernel: Kernel, scheme: str) -> Combination:
        return cls(scheme, *kernel.types, kernel.group_blocks)

    def key(self, n: int, k: int, group_length: int = 0) -> WeightKey:
        """Returns weights of a shape; group_length is needed for act-order only."""
        size = self.group_blocks if self.group_blocks <= 0 else 16 * self.group_blocks
        length = {GROUP_CHANNEL: k, GROUP_ACT_ORDER: group_length}.get(size, size)
        types = (self.a_type, self.b_type, self.c_type, self.s_type)
        return WeightKey(self.scheme, *types, size, length, n, k)

    def random_key(self, rng: random.Random, n: int, k: int) -> WeightKey:
        return self.key(n, k, rng.choice(self.group_lengths(k)))

    def group_lengths(self, k: int) -> Sequence[int]:
        """Returns the lengths of groups that the kernels serve, for K rows."""
        lengths = group_lengths(self.group_blocks, k)
        if self.one_group or self.group_blocks == GROUP_CHANNEL:
            return lengths
        return [length for length in lengths if length < k]


def spelled(type_name: str) -> str:
    """Returns a type's name as file names spell it."""
    return type_name[1:].lower()


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
    gather_first: int = -1
    a_padding: int = 0

    @property
    def local_experts(self) -> int:
        return max(1, self.num_experts // self.parts)

    @property
    def name(self) -> str:
        key = self.weights
        words = [
            self.kind,
            key.label,
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
            words.append(f"gather{self.gather_first}")
        words += [w for w, on in (("bias", self.bias), ("weights", self.topk_weights)) if on]
        if self.a_padding:
            words.append(f"stride+{self.a_padding}")
        return " ".join(words)


def read_manifest(path: str, families: Sequence[str]) -> dict[Kernel, str]:
    """Returns the scheme of each built kernel of some families; none: of all in the manifest.

    Raises:
      ValueError: a family has no kernel, or two of them have the same one.
    """
    return _schemes(path, families, [row for row in _rows(path) if _named(row, families)])


def read_usable(path: str, families: Sequence[str], capability: str | None) -> dict[Kernel, str]:
    """Returns the kernels that a library may choose among.

    Those are what read_manifest() returns, and beside them the kernels of other families that run
    on a compute capability, such as "9.0" (None: on any).

    Raises:
      ValueError: as read_manifest(), also for other families.
    """
    rows = [
        row
        for row in _rows(path)
        if _named(row, families) or capability is None or capability in row["archs"]
    ]
    return _schemes(path, families, rows)


def _rows(path: str) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        rows: list[dict[str, Any]] = json.load(file)["instantiations"]
    return rows


def _named(row: dict[str, Any], families: Sequence[str]) -> bool:
    return not families or row["family"] in families


def _schemes(path: str, families: Sequence[str], rows: list[dict[str, Any]]) -> dict[Kernel, str]:
    found: dict[Kernel, tuple[str, str]] = {}
    for row in rows:
        kernel = Kernel.of_row(row)
        other = found.setdefault(kernel, (row["family"], row["schemes"][0]))[0]
        if other != row["family"]:
            raise ValueError(
                f"{path}: families {other} and {row['family']} have the same kernels, of which a "
                "device runs one; name the families it runs"
            )
    present = {family for family, _ in found.values()}
    absent = [family for family in families if family not in present]
    if absent or not found:
        raise ValueError(f"{path}: no kernel of family {', '.join(absent) or 'any'}")
    return {kernel: scheme for kernel, (_, scheme) in found.items()}


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
        block_size=rng.choice((0, 0, 0, *key.block_sizes)),
        a_padding=rng.choice((0, 0, 0, 128 // key.a_bits, 400)),
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
        block_size=rng.choice((0, 0, 0, *key.block_sizes)),
    )


def _forced_case(rng: random.Random, kernel: Kernel, key: WeightKey) -> Case:
    """A problem that only the given kernel may solve, with blocks both full and partly filled."""
    sm90 = kernel.is_sm90
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
        blocks_per_sm=kernel.blocks_per_sm if sm90 else rng.choice((0, 0, 1, 2)),
        stripe_slack=rng.choice((-1, 0) if sm90 else (-1, -1, 0, 1, 4, 1000)),
        gather_first=rng.choice((0, 1) if kernel.takes_staged_a else (-1, 0)),
    )


def _sampled(rng: random.Random, combination: Combination, per_combination: int) -> Iterator[Case]:
    for i in range(per_combination):
        n = _GRID_N[i % len(_GRID_N)]
        k = _GRID_K[i // len(_GRID_N) % len(_GRID_K)]
        yield _grid_case(rng, combination.random_key(rng, n, k))
    shapes = [(n, k) for n in _DENSE_N for k in _DENSE_K if combination.group_lengths(k)]
    for n, k in rng.sample(shapes, min(len(shapes), -(-per_combination // 2))):
        yield _dense_case(rng, combination.random_key(rng, n, k))


def combinations(
    kernels: Mapping[Kernel, str], usable: Collection[Kernel] | None = None
) -> list[Combination]:
    """Returns the combinations of scheme, types and group size that kernels have, in order.

    `usable`: all kernels that the library may choose among, if they are more.
    """
    among = kernels if usable is None else usable
    per_channel = {kernel.types for kernel in among if kernel.group_blocks == GROUP_CHANNEL}
    found = dict.fromkeys(
        replace(Combination.of(kernel, scheme), one_group=kernel.types in per_channel)
        for kernel, scheme in kernels.items()
    )
    return list(found)


def block_sizes(kernels: Iterable[Kernel]) -> dict[tuple[str, ...], list[int]]:
    """Returns the block sizes that kernels of each (a_type, b_type, c_type, s_type) have."""
    found: dict[tuple[str, ...], set[int]] = {}
    for kernel in kernels:
        found.setdefault(kernel.types, set()).add(kernel.block_size)
    return {types: sorted(sizes) for types, sizes in found.items()}


def serves(kernels: Iterable[Kernel], wanted: Kernel, k: int) -> bool:
    """Whether one of the kernels serves a problem: its types, block size, groups, and K rows.

    `wanted` is a kernel for the problem with any tile.
    """
    return any(
        kernel.types == wanted.types
        and kernel.block_size == wanted.block_size
        and kernel.group_blocks == wanted.group_blocks
        and kernel.stages_cover(k)
        for kernel in kernels
    )


def plan(kernels: dict[Kernel, str], seed: int, per_combination: int) -> list[Case]:
    """Returns the cases for the kernels that were built.

    Args:
      kernels: the scheme of each kernel, as read_manifest() returns it.
      seed: of the sample.
      per_combination: grid cases for each scheme, types and group size; half as many dense ones.
    """
    rng = random.Random(seed)
    cases = []
    for combination in combinations(kernels):
        cases += _sampled(rng, combination, per_combination)
    for kernel, scheme in kernels.items():
        key = Combination.of(kernel, scheme).random_key(rng, 1024, rng.choice(_GRID_K))
        cases.append(_forced_case(rng, kernel, key))
    return sorted(cases, key=_weight_order)


def plan_sanitizer(kernels: dict[Kernel, str]) -> list[Case]:
    """Returns a fixed small sample for compute-sanitizer.

    For each scheme and types: with the library's choice, a problem of which tiles are split over
    blocks and one of partly filled blocks under expert parallelism; the widest tile that was built,
    forced; and tiles of sm90 cut along k, one of them with rows of A gathered first.
    """
    chosen: dict[tuple[str, ...], list[Kernel]] = {}
    for kernel, scheme in kernels.items():
        chosen.setdefault((scheme, *kernel.types), []).append(kernel)
    cases = []
    for (scheme, *_), members in chosen.items():
        widest = max(members, key=lambda kernel: (kernel.tile[1], kernel.block_size))
        groups = sorted({kernel.group_blocks for kernel in members})
        shared = {"num_experts": 4, "bias": True, "topk_weights": True, "kind": "sanitizer"}
        for group_blocks, n, k in zip((groups[0], groups[-1]), (128, 192), (512, 256), strict=True):
            key = replace(Combination.of(widest, scheme), group_blocks=group_blocks).key(n, k, 32)
            cases.append(Case(weights=key, m=5, top_k=2, seed=1, **shared))
        key = Combination.of(widest, scheme).key(256, 256, 32)
        forced = {
            "block_size": widest.block_size,
            "tile": widest.tile,
            "blocks_per_sm": widest.blocks_per_sm,
        }
        cases.append(Case(weights=key, m=70, top_k=1, seed=2, parts=2, **forced, **shared))
        if 0 in groups:
            key = replace(Combination.of(widest, scheme), group_blocks=0).key(128, 128, 32)
            cases.append(Case(weights=key, m=9, top_k=2, seed=3, **shared))
        cases += _sanitizer_cuts([kernel for kernel in members if kernel.is_sm90], scheme, shared)
    return cases


def _sanitizer_cuts(members: list[Kernel], scheme: str, shared: dict[str, Any]) -> Iterator[Case]:
    """Two problems of a few tiles that sm90 cuts into four parts each.

    One has the tile of the fewest rows, one has rows of A that are gathered first.
    """
    by_rows = sorted(members, key=lambda kernel: kernel.block_size)
    staged = [kernel for kernel in by_rows if kernel.takes_staged_a]
    for kernel, gather_first in [(each, 0) for each in by_rows[:1]] + [(s, 1) for s in staged[:1]]:
        key = Combination.of(kernel, scheme).key(kernel.thread_n + 64, 16 * kernel.thread_k)
        yield Case(
            weights=key,
            m=5,
            top_k=1,
            seed=4,
            block_size=kernel.block_size,
            tile=kernel.tile,
            blocks_per_sm=kernel.blocks_per_sm,
            gather_first=gather_first,
            **shared,
        )


def _weight_order(case: Case) -> tuple[Any, ...]:
    return astuple(case.weights)
