"""Runs planned cases on the device and compares every output with the float64 reference."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from cases import Case, WeightKey, spelled
from moe_gemm_lib import MoeGemmLibrary, Status
from operands import Problem
from weights import Weights

# Limits of mean|C - ref| / mean|ref|, with each expert's magnitude divided out.
_MEAN_LIMIT = {"kFloat16": 1e-3, "kBFloat16": 4e-3}
_MEAN_LIMIT_A8 = 5e-3
# Half of one unit in the last place, relative, and of the smallest number.
_ROUNDING = {"kFloat16": 2.0**-11, "kBFloat16": 2.0**-8}
_ROUNDING_A8 = 2.0**-8
_SMALLEST = {"kFloat16": 2.0**-25, "kBFloat16": 2.0**-134}
# Limit of one element's error, in half units in the last place of the magnitude to expect of it.
ELEMENT_LIMIT = 16.0


# Rows of outputs that are compared at a time.
_ROWS = 4096


def relative_error(output: torch.Tensor, expected: torch.Tensor) -> float:
    """Returns mean|output - expected| / mean|expected|; infinity if that is no number."""
    difference = size = 0.0
    for mine, other in zip(output.split(_ROWS), expected.split(_ROWS), strict=True):
        difference += float((mine.float() - other.float()).abs().sum(dtype=torch.float64))
        size += float(other.float().abs().sum(dtype=torch.float64))
    error = difference / size if size > 0 else math.nan
    return error if math.isfinite(error) else math.inf


def mean_limit(key: WeightKey) -> float:
    return _MEAN_LIMIT[key.c_type] if key.a_bits == 16 else _MEAN_LIMIT_A8


def rounding(key: WeightKey) -> float:
    return _ROUNDING[key.c_type] if key.a_bits == 16 else _ROUNDING_A8


@dataclass
class Result:
    """What became of a case: pass, fail, or refused (a random argument set that was changed)."""

    name: str
    kind: str
    status: str = "pass"
    detail: str = ""
    scheme: str = ""
    types: str = ""
    group_size: int | None = None
    mean_error: float | None = None
    element_error: float | None = None
    kernel: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list, repr=False)

    def complain(self, problem: str) -> None:
        self.problems.append(problem)
        self.status = "fail"
        self.detail = "; ".join(self.problems)


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def launch(library: MoeGemmLibrary, problem: Problem, config: Any, device: str) -> Status:
    """Poisons C, launches and waits."""
    problem.poison()
    status = library.gemm(problem.args, config)
    synchronise(device)
    return status


def compare(
    problem: Problem, bits: torch.Tensor, result: Result, ids: np.ndarray | None = None
) -> None:
    """Checks output bits against the reference: untouched rows, then both error measures.

    `bits` are the rows of `ids`, or all rows if that is None.
    """
    local = problem.local_expert_of_id if ids is None else problem.local_expert_of_id[ids]
    mine = torch.from_numpy(local >= 0).to(problem.home)
    if not bool(problem.untouched(bits[~mine]).all()):
        result.complain("rows of other devices' experts were written")
    if not bool(mine.any()):
        return
    values = problem.values(bits[mine])
    exact = problem.reference(ids)[mine]
    broken = ~torch.isfinite(values)
    if bool(broken.any()):
        rows = int(broken.any(dim=1).sum())
        result.complain(f"{int(broken.sum())} elements of {rows}/{len(values)} rows not finite")
    error = (values - exact).abs()
    key = problem.case.weights
    units = problem.magnitudes(ids)[mine]
    result.mean_error = float((error / units).mean() / (exact / units).abs().mean())
    size = torch.maximum(problem.sizes(ids)[mine], exact.abs())
    relative = error / (size * rounding(key) + _SMALLEST[key.c_type])
    result.element_error = float(relative.max())
    if not result.mean_error <= mean_limit(key):
        result.complain(f"mean error {result.mean_error:.2e} > {mean_limit(key):.0e}")
    if not result.element_error <= ELEMENT_LIMIT:
        bad = ~(relative <= ELEMENT_LIMIT)
        result.complain(f"element error {result.element_error:.1f} {describe_bad(bad, mine)}")


def describe_bad(bad: torch.Tensor, mine: torch.Tensor) -> str:
    """Says where wrong elements lie: how many, in which rows and columns."""
    ids = torch.nonzero(mine).flatten()[bad.any(dim=1)].tolist()
    columns = torch.nonzero(bad.any(dim=0)).flatten().tolist()
    return (
        f"({int(bad.sum())}/{bad.numel()} elements; {len(ids)} rows {_shortened(ids)}; "
        f"{len(columns)} columns {_shortened(columns)})"
    )


def _shortened(numbers: list[int]) -> str:
    head = ",".join(map(str, numbers[:6]))
    return head if len(numbers) <= 6 else f"{head},...,{numbers[-1]}"


def _launch_forced(
    library: MoeGemmLibrary, problem: Problem, config: Any, device: str
) -> tuple[Status, Any]:
    """Launches; asks for as many blocks as fit where the number forced is refused as too large."""
    status = launch(library, problem, config, device)
    if config is not None and not status.ok and "blocks_per_sm" in status.message:
        config.blocks_per_sm = 0
        problem.new_workspace(config)
        status = launch(library, problem, config, device)
    return status, config


def new_result(name: str, kind: str, key: WeightKey) -> Result:
    types = spelled(key.a_type) + ("" if key.a_bits == 16 else f"-{spelled(key.c_type)}")
    return Result(name, kind, "pass", "", key.scheme, types, key.group_size)


def run_case(
    library: MoeGemmLibrary, case: Case, weights: Weights, device: str, home: str
) -> Result:
    """Launches a case twice and checks everything that the contract says about its output."""
    result = new_result(case.name, case.kind, case.weights)
    problem = Problem(library, case, weights, device, home)
    status, config = _launch_forced(library, problem, problem.forced_config(), device)
    bits = problem.output_bits()
    if not status.ok:
        result.complain(f"{status.name}: {status.message}")
        if not problem.c_untouched():
            result.complain("C was written by a refused call")
        return result
    chosen = config if config is not None else library.choose_config(problem.args)[1]
    result.kernel = asdict(problem.kernel(chosen))
    launch(library, problem, config, device)
    if not torch.equal(bits, problem.output_bits()):
        differing = int((bits != problem.output_bits()).sum())
        result.complain(f"second run on the same workspace differs in {differing} elements")
    compare(problem, bits, result)
    check_guards(problem, result)
    return result


def check_guards(problem: Problem, result: Result) -> None:
    for name, buffer in (("C", problem.c), ("the workspace", problem.workspace)):
        if not buffer.intact():
            result.complain(f"bytes beside {name} were changed")
