"""Measured configurations: what tune() measures and writes, and what layers make of the file."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import marlin_moe
import pytest
from conftest import EXPERTS, HIDDEN, INNER, Stub, make_layer, weights
from frameworks import Tensor
from marlin_moe import InvalidArgumentError, MoeLayer, _tuning_file

TOP_K = 4
NO_KERNEL = 3
# Tiles of the stub: block size, and what is in the file for it.
SMALL, LARGE = (8, [128, 64, 128, 0, -1, -1]), (64, [64, 256, 384, 2, -1, -1])
# The stub's choice for a layer, and the name of its device 0.
BUILT_IN, GPU = 16, "Stub 0"


KEY = {
    "gpu": GPU,
    "hidden": HIDDEN,
    "intermediate": INNER,
    "columns": 2 * INNER,
    "local_experts": EXPERTS,
    "num_experts": EXPERTS,
    "gate_up": "kU4B8 - - - bfloat16 group 128",
    "down": "kU4B8 - - - bfloat16 group 128",
}


def choice(tokens: int, tile: tuple[int, list[int]] = SMALL, **changes: Any) -> dict[str, Any]:
    size, config = tile
    found = {"tokens": tokens, "top_k": TOP_K, "block_size": size, "gate_up": config, "down": None}
    return found | changes


def content(*choices: dict[str, Any], **changes: Any) -> dict[str, Any]:
    layers = [{"key": KEY | changes, "choices": list(choices)}]
    return {"format": 1, "version": marlin_moe.__version__, "layers": layers}


def write(folder: Path, given: Any) -> str:
    file = folder / "tuning.json"
    file.write_text(given if isinstance(given, str) else json.dumps(given))
    return str(file)


def run(stub: Stub, layer: MoeLayer, m: int, top_k: int = TOP_K) -> list[dict[str, Any]]:
    """Runs a layer; returns what its GEMMs were launched with."""
    stub.calls()
    x = Tensor((m, HIDDEN), "bfloat16")
    layer(x, Tensor((m, top_k), "float32"), Tensor((m, top_k), "int32"))
    return [fields for name, fields in stub.calls() if name == "moe_gemm"]


def config_of(gemm: dict[str, Any]) -> list[int] | None:
    names = ("thread_k", "thread_n", "threads", "blocks_per_sm", "stripe_slack", "gather_first")
    return [gemm[name] for name in names] if "thread_k" in gemm else None


def test_a_layer_takes_what_is_measured_for_the_closest_number_of_tokens(
    stub: Stub, tmp_path: Path
) -> None:
    file = write(tmp_path, content(choice(4), choice(64, LARGE, down=SMALL[1])))
    layer = make_layer(tuning=file)
    for m, wanted, down in ((1, SMALL, None), (15, SMALL, None), (17, LARGE, SMALL[1])):
        first, second = run(stub, layer, m)
        assert (first["block_size"], config_of(first)) == wanted
        assert (second["block_size"], config_of(second)) == (wanted[0], down)
        assert layer.block_size(m, TOP_K) == wanted[0]
    for gemm in run(stub, layer, 64, top_k=2):  # nobody has measured that
        assert (gemm["block_size"], config_of(gemm)) == (BUILT_IN, None)
    given = make_layer(tuning=file, block_size=48)
    assert {gemm["block_size"] for gemm in run(stub, given, 64)} == {48}


def test_the_environment_may_name_the_file(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARLIN_MOE_TUNING", write(tmp_path, content(choice(4))))
    assert config_of(run(stub, make_layer(), 4)[0]) == SMALL[1]
    other = tmp_path / "other"
    other.mkdir()
    given = make_layer(tuning=write(other, content(choice(4, LARGE))))
    assert config_of(run(stub, given, 4)[0]) == LARGE[1]
    monkeypatch.setenv("MARLIN_MOE_TUNING", "")
    stub.calls()
    assert config_of(run(stub, make_layer(), 4)[0]) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": "Stub 1"},
        {"hidden": 512},
        {"columns": INNER},
        {"num_experts": 64},
        {"gate_up": "kU4B8 - kFloat16 - bfloat16 group 128"},
        {"down": "kU4 - - - bfloat16 group 128 zero_points"},
    ],
)
def test_a_file_of_other_layers_changes_nothing(
    stub: Stub, tmp_path: Path, changes: dict[str, Any]
) -> None:
    file = write(tmp_path, content(choice(4), **changes))
    assert {gemm["block_size"] for gemm in run(stub, make_layer(tuning=file), 4)} == {BUILT_IN}


def test_a_file_that_changes_is_read_again(stub: Stub, tmp_path: Path) -> None:
    file = write(tmp_path, content(choice(4)))
    assert run(stub, make_layer(tuning=file), 4)[0]["block_size"] == SMALL[0]
    write(tmp_path, content(choice(4, LARGE)))
    assert run(stub, make_layer(tuning=file), 4)[0]["block_size"] == LARGE[0]


def test_arrays_of_jax_have_the_librarys_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = type("Call", (), {"__module__": "marlin_moe._jax"})
    traced = types.SimpleNamespace(handle=call())
    file = write(tmp_path, content(choice(4)))
    with pytest.raises(InvalidArgumentError, match=r"^tuning = .* is not allowed; allowed: None"):
        _tuning_file.tuned(file, traced, traced, None)
    monkeypatch.setenv("MARLIN_MOE_TUNING", file)
    assert _tuning_file.tuned(None, traced, traced, None) is None


BAD: dict[str, Any] = {
    "not readable: JSONDecodeError": '{"format": 1',
    "not readable: TypeError": [],
    "not readable: KeyError: 'version'": {"format": 1},
    "of version 0.0.9, format 1": content() | {"version": "0.0.9"},
    f"of version {marlin_moe.__version__}, format 2": content() | {"format": 2},
    "not readable: KeyError: 'layers'": {"format": 1, "version": marlin_moe.__version__},
    "not readable: TypeError: Key": content(choice(4), other=1),
    "not readable: ValueError: tokens is 0": content(choice(0)),
    "not readable: ValueError: tokens is True": content(choice(True)),
    "not readable: ValueError: top_k is '4'": content(choice(4, top_k="4")),
    "not readable: ValueError: gate_up is [1, 2]": content(choice(4, gate_up=[1, 2])),
    "not readable: ValueError: down is [1, 2, 3, 4, 5, 6.0]": content(
        choice(4, down=[1, 2, 3, 4, 5, 6.0])
    ),
    "not readable: TypeError: object of type 'int'": content(choice(4, down=4)),
    "not readable: KeyError: 'down'": content(
        {"tokens": 4, "top_k": 1, "block_size": 8, "gate_up": None}
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_a_file_that_is_not_of_this_version_is_refused(
    stub: Stub, tmp_path: Path, message: str
) -> None:
    file = write(tmp_path, BAD[message])
    with pytest.raises(InvalidArgumentError) as caught:
        make_layer(tuning=file)
    assert str(caught.value).startswith(f"tuning = {file}")
    assert message in str(caught.value)
    assert "run it again" in str(caught.value)
    assert "moe_gemm" not in {name for name, _ in stub.calls()}


def test_a_file_that_is_not_there_is_refused(stub: Stub, tmp_path: Path) -> None:
    del stub
    for name in (str(tmp_path / "none.json"), 7.5):
        with pytest.raises(InvalidArgumentError, match=r"^tuning = .* is not allowed; allowed: a"):
            make_layer(tuning=name)


def test_a_configuration_without_a_kernel_is_refused(stub: Stub, tmp_path: Path) -> None:
    file = write(tmp_path, content(choice(4, down=LARGE[1])))
    for after, step in ((0, "gate_up"), (1, "down")):
        stub.fail("moe_gemm_workspace_size", NO_KERNEL, "no kernel", after=after)
        with pytest.raises(marlin_moe.NoKernelError, match=rf"^tuning: {step}: no kernel"):
            make_layer(tuning=file)
    stub.calls()
    make_layer(tuning=file)
    asked = [fields for name, fields in stub.calls() if name == "moe_gemm_workspace_size"]
    assert [(gemm["m"], gemm["top_k"], gemm["n"]) for gemm in asked] == [
        (4, TOP_K, 2 * INNER),
        (4 * TOP_K, 1, HIDDEN),
    ]
    assert [config_of(gemm) for gemm in asked] == [SMALL[1], LARGE[1]]


class Event:
    """Tells the time by what the stub was called with; a call's costs are microseconds."""

    stub: Stub
    costs: dict[tuple[str, int, int], float]

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.passed = 0.0

    def record(self) -> None:
        """Takes what was called since the last record."""
        self.passed = 0.0
        for name, fields in self.stub.calls():
            if name in ("moe_gemm", "moe_align"):
                size, tile = fields["block_size"], fields.get("thread_n", 0)
                self.passed += self.costs.get((name, size, tile), 1000.0)

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        """Returns milliseconds."""
        return end.passed / 1e3


class Random(Tensor):
    """A tensor whose elements and indices are converted."""

    def to(self, dtype: str) -> Random:
        return Random(self.shape, dtype)

    def int(self) -> Random:
        return Random(self.shape, "int32")

    def __rmul__(self, factor: float) -> Random:
        return self


class Context:
    def __init__(self, *given: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *unused: object) -> None:
        pass


@pytest.fixture
def torch(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What tune() uses of PyTorch."""
    Event.stub = stub
    Event.costs = {}

    class Generator:
        def __init__(self, device: Any) -> None:
            pass

        def manual_seed(self, seed: int) -> Generator:
            return self

    def random(shape: Any, **options: Any) -> Random:
        return Random(shape, "float32")

    def topk(scores: Random, k: int, dim: int) -> Any:
        return types.SimpleNamespace(indices=Random((scores.shape[0], k), "int64"))

    module: Any = types.ModuleType("torch")
    for name in ("float16", "bfloat16", "int8", "float8_e4m3fn"):
        setattr(module, name, name)
    module.device = lambda *given: given
    module.no_grad = Context
    module.is_grad_enabled = lambda: False
    module.Generator = Generator
    module.rand = module.randn = module.ones = random
    module.topk = topk
    module.cuda = types.SimpleNamespace(
        Event=Event, device=Context, _sleep=lambda cycles: stub.calls()
    )
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.mark.usefixtures("torch")
def test_the_fastest_block_size_and_tiles_are_written(stub: Stub, tmp_path: Path) -> None:
    Event.costs = {
        ("moe_align", BUILT_IN, 0): 5.0,
        ("moe_gemm", BUILT_IN, 0): 20.0,
        ("moe_align", SMALL[0], 0): 5.0,
        ("moe_gemm", SMALL[0], SMALL[1][1]): 21.0,
        ("moe_align", LARGE[0], 0): 4.0,
        ("moe_gemm", LARGE[0], LARGE[1][1]): 15.0,
    }
    file = str(tmp_path / "tuning.json")
    [made] = marlin_moe.tune(make_layer(), [32], top_k=TOP_K, file=file)
    assert (made["microseconds"], made["built_in_microseconds"]) == (34.0, 45.0)
    assert (made["block_size"], made["gate_up"], made["down"]) == (*LARGE, LARGE[1])
    assert json.loads(Path(file).read_text())["layers"] == [{"key": KEY, "choices": [made]}]
    assert [config_of(gemm) for gemm in run(stub, make_layer(tuning=file), 32)] == [LARGE[1]] * 2
    # Another number of tokens and another layer are added.
    Event.costs["moe_gemm", BUILT_IN, 0] = 14.6
    [kept] = marlin_moe.tune(make_layer(), [2], top_k=TOP_K, file=file)
    assert (kept["block_size"], kept["gate_up"], kept["down"]) == (BUILT_IN, None, None)
    other = make_layer(num_experts=64, expert_map=Tensor((64,), "int32"))
    marlin_moe.tune(other, [2, 4], top_k=TOP_K, file=file)
    found = json.loads(Path(file).read_text())["layers"]
    assert [len(layer["choices"]) for layer in found] == [2, 2]
    assert found[0] == {"key": KEY, "choices": [kept, made]}
    assert found[1]["key"] == KEY | {"num_experts": 64}
    assert os.listdir(tmp_path) == ["tuning.json"]
    stub.calls()


@pytest.mark.usefixtures("torch")
def test_what_is_measured_is_what_the_layer_does(stub: Stub, tmp_path: Path) -> None:
    expert_map = Tensor((64,), "int32")
    factor = {"a_type": "kS8", "a_factor": Tensor((1,), "float32")}
    layer = MoeLayer(
        weights(HIDDEN, 2 * INNER, **factor),
        weights(INNER, HIDDEN, **factor),
        num_experts=64,
        expert_map=expert_map,
    )
    seen: list[tuple[str, dict[str, Any]]] = []
    calls = stub.calls
    stub.calls = lambda: seen.extend(new := calls()) or new  # type: ignore[method-assign,func-returns-value]
    marlin_moe.tune(layer, [8], top_k=2, file=str(tmp_path / "f"))
    aligned = [fields for name, fields in seen if name == "moe_align"]
    assert {(f["num_ids"], f["num_experts"], f["drop_remote"]) for f in aligned} == {(16, 64, 1)}
    assert {fields["expert_map"] for fields in aligned} == {expert_map.pointer}
    gemms = [fields for name, fields in seen if name == "moe_gemm"]
    assert {(f["m"], f["top_k"], f["n"], f["a_type"]) for f in gemms} == {
        (8, 2, 2 * INNER, "kS8"),
        (16, 1, HIDDEN, "kS8"),
    }
    assert all(fields["a_scales"] for fields in gemms)
    assert {fields["block_size"] for fields in gemms} == {SMALL[0], BUILT_IN, LARGE[0]}


@pytest.mark.usefixtures("torch")
def test_what_tune_refuses(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, file = make_layer(), str(tmp_path / "tuning.json")
    refused: dict[str, dict[str, Any]] = {
        "layer = NoneType object": {"layer": None},
        "tokens, top_k = 0": {"tokens": [4, 0]},
        "tokens, top_k = 2.0": {"tokens": [2.0]},
        "tokens, top_k = True": {"top_k": True},
        "top_k = 17": {"top_k": 17},
        "file = None": {"file": None},
    }
    for message, changes in refused.items():
        given = {"layer": layer, "tokens": [4], "top_k": TOP_K, "file": file} | changes
        with pytest.raises(InvalidArgumentError) as caught:
            marlin_moe.tune(given.pop("layer"), given.pop("tokens"), **given)
        assert str(caught.value).startswith(f"{message} is not allowed; allowed: ")
    write(tmp_path, content() | {"version": "0.0.9"})
    with pytest.raises(InvalidArgumentError, match=r"of version 0\.0\.9"):
        marlin_moe.tune(layer, [4], top_k=TOP_K, file=file)
    assert json.loads(Path(file).read_text())["version"] == "0.0.9"
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(marlin_moe.LibraryError, match=r"^tune\(\) needs PyTorch"):
        marlin_moe.tune(layer, [4], top_k=TOP_K, file=str(tmp_path / "other"))
    stub.calls()
