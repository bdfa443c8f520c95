"""How calls meet frameworks: streams, memory, devices, and what tvm-ffi cannot take."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import frameworks
import marlin_moe
import pytest
from conftest import Stub
from frameworks import CUDA, CUDA_MANAGED, PlainTensor, Tensor
from marlin_moe import Alignment, ExpertWeights, InvalidArgumentError, _function, _library

M, N = 4, 64


def test_calls_go_to_the_frameworks_current_stream(stub: Stub) -> None:
    x = Tensor((M, 2 * N), "float16")
    for stream in (0x5000, 0, 0x6000):
        Tensor.stream = stream
        marlin_moe.silu_and_mul(x)
        assert stub.call("act_and_mul")["stream"] == stream


def test_tensors_are_given_back_after_the_launch_and_results_after_their_owner(stub: Stub) -> None:
    x = Tensor((M, 2 * N), "float16")
    seen = []
    delete = frameworks.Memory.export

    def export(memory: Any, *, versioned: bool) -> int:
        seen.append(len(stub.calls()))
        return delete(memory, versioned=versioned)

    frameworks.Memory.export = export  # type: ignore[method-assign]
    try:
        out = marlin_moe.silu_and_mul(x)
    finally:
        frameworks.Memory.export = delete  # type: ignore[method-assign]
    assert seen == [0, 0]  # x and the result were both exported before the launch
    assert (x.memory.exports, out.memory.exports) == (0, 0)


def test_a_call_makes_its_device_current_and_gives_it_back(stub: Stub) -> None:
    stub.set(device=3)
    x = Tensor((M, 2 * N), "float16", device=(2, 1))
    assert marlin_moe.silu_and_mul(x).memory.device == (2, 1)
    assert stub.call("act_and_mul")["device"] == 1
    assert stub.device() == 3
    stub.fail("act_and_mul", 4, "failed")
    with pytest.raises(marlin_moe.CudaError, match=r"^failed$"):
        marlin_moe.silu_and_mul(x)
    assert stub.device() == 3


def test_a_machine_without_a_device(stub: Stub) -> None:
    stub.set(device=-1)
    with pytest.raises(marlin_moe.CudaError, match="cudaGetDevice: no CUDA-capable device"):
        marlin_moe.silu_and_mul(Tensor((M, 2 * N), "float16"))
    assert stub.calls() == []


def test_managed_memory_is_taken(stub: Stub) -> None:
    x = Tensor((M, 2 * N), "float16", device=(CUDA_MANAGED, 0))
    marlin_moe.silu_and_mul(x, out=Tensor((M, N), "float16"))
    assert stub.call("act_and_mul")["x"] == x.pointer


def test_frameworks_without_a_stream_have_the_default_one_and_give_the_output(stub: Stub) -> None:
    Tensor.stream = 0x5000
    marlin_moe.silu_and_mul(Tensor((M, 2 * N), "float16"))  # leaves no stream behind
    stub.calls()
    x, out = PlainTensor((M, 2 * N), "float16"), PlainTensor((M, N), "float16")
    assert marlin_moe.silu_and_mul(x, out=out) is out
    fields = stub.call("act_and_mul")
    assert (fields["x"], fields["out"], fields["stream"]) == (x.pointer, out.pointer, 0)
    with pytest.raises(InvalidArgumentError, match=r"^out = None is not allowed"):
        marlin_moe.silu_and_mul(x)
    assert stub.calls() == []


class CupyArray(PlainTensor):
    """An array of the framework below."""

    made: ClassVar[list[CupyArray]] = []

    @property
    def device(self) -> Any:
        return types.SimpleNamespace(id=self.memory.device[1])


CupyArray.__module__ = "cupy._core.core"


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A framework of CuPy's name and interface: the parts that the package uses."""
    current = [0]

    @contextmanager
    def use(device: int) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    def empty(shape: tuple[int, ...], dtype: str) -> CupyArray:
        made = CupyArray(shape, dtype, device=(2, current[-1]))
        CupyArray.made.append(made)
        return made

    def from_dlpack(tensor: Any) -> CupyArray:
        [found] = [made for made in CupyArray.made if made.pointer == tensor.data_ptr()]
        return found

    module = types.ModuleType("cupy")
    module.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        Device=use,
        get_current_stream=lambda: types.SimpleNamespace(ptr=0x7000 + current[-1]),
    )
    module.empty = empty  # type: ignore[attr-defined]
    module.from_dlpack = from_dlpack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", module)
    CupyArray.made.clear()
    return module


def test_cupy_tells_its_stream_and_makes_results(stub: Stub, cupy: Any) -> None:
    del cupy
    x = CupyArray((M, 2 * N), "float16", device=(2, 1))
    out = marlin_moe.silu_and_mul(x)
    assert type(out) is CupyArray
    assert (out.shape, out.dtype, out.memory.device) == ((M, N), "float16", (2, 1))
    fields = stub.call("act_and_mul")
    assert (fields["stream"], fields["device"], fields["out"]) == (0x7001, 1, out.pointer)
    found = marlin_moe.moe_align(
        CupyArray((M, 2), "int32", device=(2, 1)), num_experts=4, block_size=8
    )
    assert [type(part) for part in found[:3]] == [CupyArray] * 3


def test_cupys_stream_and_allocator_end_with_the_call(stub: Stub, cupy: Any) -> None:
    del cupy
    marlin_moe.silu_and_mul(CupyArray((M, 2 * N), "float16"))
    stub.calls()
    x, out = PlainTensor((M, 2 * N), "float16"), PlainTensor((M, N), "float16")
    marlin_moe.silu_and_mul(x, out=out)
    assert stub.call("act_and_mul")["stream"] == 0
    with pytest.raises(InvalidArgumentError, match=r"^out = None is not allowed"):
        marlin_moe.silu_and_mul(x)


def test_scratch_memory_comes_from_a_pool_where_no_framework_makes_any(stub: Stub) -> None:
    stub.set(align_bytes=512)
    ids = PlainTensor((M, 2), "int32", device=(CUDA, 1))
    capacity = marlin_moe.alignment_capacity(2 * M, 16, 8)
    lists = [PlainTensor((n,), "int32", device=(CUDA, 1)) for n in (capacity, capacity // 8, 1)]
    marlin_moe.moe_align(ids, num_experts=16, block_size=8, out=marlin_moe.Alignment(*lists, 8))
    calls = [(name, fields) for name, fields in stub.calls() if "stream" in fields]
    assert [name for name, _ in calls] == ["malloc", "moe_align", "free"]
    (_, made), (_, align), (_, freed) = calls
    assert {fields["device"] for _, fields in calls} == {1}
    assert made["data"] == align["workspace"] == freed["data"]
    assert (made["bytes"], made["pool"], made["stream"]) == (512, 2, 0)
    assert stub.device() == 0  # the caller's again


def test_an_expression_calls_what_it_names(stub: Stub) -> None:
    silu, total = _library.function("act_and_mul"), _library.function("topk_sum")
    x, rows, out = (Tensor((M, n), "float16") for n in (2 * N, N, N))
    run = _library.function("function_of")
    gated = [silu, [1], "silu", False, None, None]
    run([*gated, [0]])(rows, x)
    fields = stub.call("act_and_mul")
    assert (fields["x"], fields["out"]) == (x.pointer, rows.pointer)
    # The inner call makes what the outer one takes; constants are themselves.
    gated[1] = [0]
    run([total, [*gated, None], 1, None, 0, None, [1]])(x, out)
    calls = dict(stub.calls())
    assert calls["topk_sum"]["x"] == calls["act_and_mul"]["out"]
    assert (calls["topk_sum"]["top_k"], calls["topk_sum"]["out"]) == (1, out.pointer)
    with pytest.raises(InvalidArgumentError, match=r"^top_k = 'one' is not allowed"):
        run([total, [0], "one", None, 0, None, [1]])(rows, out)


def test_a_gradient_is_not_dropped_in_silence(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = types.ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    x: Any = Tensor((M, 2 * N), "float16")
    x.requires_grad = True
    torch.is_grad_enabled = lambda: True
    marlin_moe.silu_and_mul(Tensor((M, 2 * N), "float16"))  # has none
    assert len(stub.calls()) == 1
    with pytest.raises(InvalidArgumentError, match=r"^x = a tensor that requires a gradient"):
        marlin_moe.silu_and_mul(x)
    assert stub.calls() == []
    torch.is_grad_enabled = lambda: False
    marlin_moe.silu_and_mul(x)
    assert stub.call("act_and_mul")["x"] == x.pointer


def test_messages_name_types_by_module_unless_it_is_pythons_own(stub: Stub) -> None:
    del stub

    class Other:
        pass

    Other.__module__ = "a.b"
    for value, words in (
        ((1, 2), "tuple"),
        (types.SimpleNamespace(), "types.SimpleNamespace"),
        (Other(), "a.b.Other"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            marlin_moe.moe_gemm(**{**gemm_arguments(), "alignment": value})
        assert str(caught.value).startswith(
            f"alignment = {words} object is not allowed; allowed: a marlin_moe.Alignment"
        )


@pytest.mark.parametrize("module", ["jax.core", "jaxlib._jax", "marlin_moe._jax"])
def test_arrays_of_jax_and_calls_of_them_become_part_of_its_program(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    front: Any = types.ModuleType("marlin_moe._jax")
    front.call = lambda *given: given
    monkeypatch.setitem(sys.modules, "marlin_moe._jax", front)
    monkeypatch.setattr(marlin_moe, "_jax", front, raising=False)

    class Array(PlainTensor):
        pass

    Array.__module__ = module
    x = Array((M, 2 * N), "float16")
    called, names, given = marlin_moe.silu_and_mul(x)
    assert (called, names[:2], given[:2]) == ("act_and_mul", ("x", "activation"), (x, "silu"))
    assert _function.Function(x, "tokens")(7) == (x, ("tokens",), (7,))
    assert stub.calls() == []


def test_importing_imports_no_framework_and_no_library() -> None:
    code = "import sys, marlin_moe; print(sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'marlin_moe'" in result.stdout
    for name in ("torch", "cupy", "jax", "numpy", "tvm_ffi"):
        assert f"'{name}'" not in result.stdout


class Exporting:
    """Pretends to be a tensor."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def __dlpack__(self, **options: Any) -> Any:
        return self._answer()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def fail_with(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


NASTY = {
    "None": None,
    "a number": 3,
    "a large number": 1 << 80,
    "a float": 1.5,
    "not a number": float("nan"),
    "a truth value": True,
    "a string": "tensor",
    "bytes": b"tensor",
    "a tuple": (1, 2),
    "a list of tensors": [Tensor((M, N), "float16")],
    "a dictionary": {"data": 1},
    "a set": {1},
    "an object": object(),
    "a function": len,
    "a class": Tensor,
    "a range": range(3),
    "a complex number": 1j,
    "a tensor that raises a TypeError": Exporting(fail_with(TypeError("no"))),
    "a tensor that raises a BufferError": Exporting(fail_with(BufferError("no"))),
    "a tensor that raises a RuntimeError": Exporting(fail_with(RuntimeError("no"))),
    "a tensor that raises an AttributeError": Exporting(fail_with(AttributeError("no"))),
    "a tensor that raises a KeyError": Exporting(fail_with(KeyError("no"))),
    "a tensor that exports None": Exporting(lambda: None),
    "a tensor that exports a number": Exporting(lambda: 7),
    "an array interface": types.SimpleNamespace(__cuda_array_interface__={"shape": (M, N)}),
    "an array interface of None": types.SimpleNamespace(__cuda_array_interface__=None),
    "a tensor on the CPU": Tensor((M, N), "float16", device=(1, 0)),
    "a tensor in pinned memory": Tensor((M, N), "float16", device=(3, 0)),
    "a tensor on another kind of device": Tensor((M, N), "float16", device=(8, 0)),
    "a tensor of truth values": Tensor((M, N), "bool"),
    "a tensor of six dimensions": Tensor((1, 1, 1, 1, 1, 1), "float16"),
    "a tensor of no dimension": Tensor((), "float16"),
    "a tensor of 2**40 rows": Tensor((1 << 40, 2), "float16"),
}


def gemm_arguments() -> dict[str, Any]:
    capacity = marlin_moe.alignment_capacity(8, 8, 16)
    lists = [Tensor((length,), "int32") for length in (capacity, capacity // 16, 1)]
    return {
        "a": Tensor((4, 128), "bfloat16"),
        "weights": ExpertWeights(**weight_arguments()),
        "alignment": Alignment(*lists, block_size=16),
        "top_k": 2,
    }


def weight_arguments() -> dict[str, Any]:
    return {
        "b": Tensor((8, 8, 128), "int32"),
        "scales": Tensor((8, 1, 64), "bfloat16"),
        "b_type": "kU4B8",
        "group_size": 128,
    }


# A call, and for each argument that is tried, the kinds of values that are fine.
OPTIONAL = {"None"}
NUMBER = {"a number"}
CALLS: dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]], dict[str, set[str]]]] = {
    "silu_and_mul": (
        marlin_moe.silu_and_mul,
        lambda: {"x": Tensor((M, 2 * N), "float16")},
        {"x": set(), "out": OPTIONAL, "interleaved": {"a truth value"}},
    ),
    "gelu_and_mul": (
        marlin_moe.gelu_and_mul,
        lambda: {"x": Tensor((M, 2 * N), "float16")},
        {"approximate": set()},
    ),
    "swigluoai_and_mul": (
        marlin_moe.swigluoai_and_mul,
        lambda: {"x": Tensor((M, 2 * N), "float16")},
        {"alpha": {"a float", *NUMBER, *OPTIONAL}, "limit": {"a float", *NUMBER, *OPTIONAL}},
    ),
    "topk_sum": (
        marlin_moe.topk_sum,
        lambda: {
            "x": Tensor((6, N), "float16"),
            "top_k": 3,
            "topk_ids": Tensor((2, 3), "int32"),
            "num_experts": 4,
        },
        {"top_k": NUMBER, "num_experts": NUMBER, "expert_map": OPTIONAL, "topk_ids": set()},
    ),
    "quantize_activations": (
        marlin_moe.quantize_activations,
        lambda: {"x": Tensor((M, N), "float16"), "out_type": "kS8"},
        {"x": set(), "out_type": set(), "factor": OPTIONAL, "out": OPTIONAL},
    ),
    "moe_align": (
        marlin_moe.moe_align,
        lambda: {"topk_ids": Tensor((4, 2), "int32"), "num_experts": 8, "block_size": 16},
        {
            "topk_ids": set(),
            "num_experts": NUMBER,
            "block_size": set(),
            "drop_remote": {"a truth value"},
            "expert_map": OPTIONAL,
            "out": OPTIONAL,
        },
    ),
    "repack_gptq": (
        marlin_moe.repack_gptq,
        lambda: {"qweight": Tensor((8, 16, 64), "int32"), "b_type": "kU4B8"},
        {
            "qweight": set(),
            "b_type": set(),
            "a_type": set(),
            "perm": OPTIONAL,
            "padded": OPTIONAL,
            "column_parts": NUMBER,
        },
    ),
    "permute_scales": (
        marlin_moe.permute_scales,
        lambda: {"scales": Tensor((8, 1, 64), "float16"), "b_type": "kU4B8", "group_size": 128},
        {
            "scales": set(),
            "group_size": NUMBER,
            "c_type": OPTIONAL,
            "columns_first": {"a truth value"},
            "columns_per_scale": NUMBER,
            "n": OPTIONAL | NUMBER,
            "padded": OPTIONAL,
        },
    ),
    "padded_shape": (
        marlin_moe.padded_shape,
        lambda: {"n": 96, "k": 96, "b_type": "kU4B8", "group_size": 32},
        {"n": NUMBER, "k": NUMBER, "b_type": set(), "group_size": NUMBER, "a_type": set()},
    ),
    "ExpertWeights": (
        ExpertWeights,
        weight_arguments,
        {
            "b": set(),
            "scales": set(),
            "b_type": set(),
            "group_size": NUMBER,
            "a_type": OPTIONAL,
            "bias": OPTIONAL,
            "zero_points": OPTIONAL,
            "perm": OPTIONAL,
        },
    ),
    "moe_gemm": (
        marlin_moe.moe_gemm,
        gemm_arguments,
        {
            "a": set(),
            "weights": set(),
            "alignment": set(),
            "top_k": NUMBER,
            "a_scales": OPTIONAL,
            "topk_weights": OPTIONAL,
            "expert_parallel": {"a truth value"},
            "atomic_reduce": {"a truth value"},
            "config": OPTIONAL,
            "out": OPTIONAL,
        },
    ),
}


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, (_, _, tried) in CALLS.items() for argument in tried],
)
def test_nasty_arguments_are_refused_by_name(stub: Stub, name: str, argument: str) -> None:
    function, arguments, tried = CALLS[name]
    given = arguments()
    launches = {"act_and_mul", "topk_sum", "quantize_activations", "moe_align", "moe_gemm"}
    stub.calls()
    for kind, value in NASTY.items():
        if kind in tried[argument]:
            continue
        with pytest.raises(InvalidArgumentError) as caught:
            function(**{**given, argument: value})
        assert str(caught.value).startswith(f"{argument} = "), (kind, str(caught.value))
        assert " is not allowed; allowed: " in str(caught.value), (kind, str(caught.value))
        assert not launches & {called for called, _ in stub.calls()}, kind


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"n": 320},
            "scales = 2 in a row is not allowed; allowed: 3: with column_parts = 1, one for 128 of "
            "n = 320 columns",
        ),
        (
            {"n": 192, "column_parts": 3},
            "scales = 2 in a row is not allowed; allowed: 3: with column_parts = 3",
        ),
        ({"n": 0}, "n = 0 is not allowed; allowed: a multiple of column_parts from 1 to"),
        ({"n": 191, "column_parts": 2}, "n = 191 is not allowed; allowed: a multiple of"),
        ({"columns_per_scale": 0}, "columns_per_scale = 0 is not allowed; allowed: 1 or more"),
        ({"column_parts": 0}, "column_parts = 0 is not allowed; allowed: 1 or more"),
        (
            {"s_type": "kFE8M0fnu"},
            "scales = dtype float32 is not allowed; allowed: float8_e8m0fnu for kFE8M0fnu",
        ),
        (
            {"scales": Tensor((8, 0, 3), "float32")},
            "scales = a tensor without elements is not allowed",
        ),
        (
            {"padded": marlin_moe.PaddedShape("x", 1, 1)},
            "padded.n = 'x' is not allowed; allowed: an integer",
        ),
    ],
)
def test_block_scales_that_do_not_fit_are_refused(
    stub: Stub, changes: dict[str, Any], message: str
) -> None:
    given = {
        "scales": Tensor((8, 2, 3), "float32"),
        "b_type": "kFE4M3fn",
        "group_size": 128,
        "columns_first": True,
        "columns_per_scale": 128,
    }
    with pytest.raises(InvalidArgumentError) as caught:
        marlin_moe.permute_scales(**{**given, **changes})
    assert str(caught.value).startswith(message)
    assert stub.calls() == []


def test_zero_points_of_other_groups_are_refused(stub: Stub) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^qzeros = shape \(8, 4, 8\)"):
        marlin_moe.repack_awq(
            Tensor((8, 96, 8), "int32"),
            b_type="kU4",
            qzeros=Tensor((8, 4, 8), "int32"),
            padded=marlin_moe.PaddedShape(64, 128, 4),
        )
    assert stub.calls() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"g_idx": Tensor((8, 128), "int32")},
            "g_idx = a tensor is not allowed; allowed: None: a tensor goes with group_size 0",
        ),
        ({"perm": Tensor((8, 128), "int32")}, "perm = a tensor is not allowed; allowed: None"),
        (
            {"group_size": 0, "perm": Tensor((8, 128), "int32")},
            "g_idx = None is not allowed; allowed: [num_experts, k]: needed with group_size 0",
        ),
        ({"zero_points": Tensor((8, 1, 8), "int32")}, "zero_points = a tensor is not allowed"),
        ({"b_type": "kU4"}, "zero_points = None is not allowed"),
        ({"global_scales": Tensor((8,), "float32")}, "global_scales = a tensor is not allowed"),
        (
            {"s_type": "kFE4M3fn", "scales": Tensor((8, 8, 64), "uint8"), "c_type": "kFloat16"},
            "global_scales = None is not allowed",
        ),
        (
            {"s_type": "kFE4M3fn", "scales": Tensor((8, 8, 64), "uint8")},
            "c_type = None is not allowed; allowed: kFloat16, kBFloat16: the one that scale_",
        ),
        ({"c_type": "kFloat16"}, "c_type = kFloat16 is not allowed; allowed: kBFloat16"),
        ({"a_factor": Tensor((1,), "float32")}, "a_factor = a tensor is not allowed"),
        (
            {"a_type": "kS8", "group_size": 64, "scales": Tensor((8, 2, 64), "bfloat16")},
            "global_scales = None is not allowed; allowed: (num_experts,), which permute_scales()",
        ),
        ({"bias": Tensor((8, 64), "float16")}, "bias = dtype float16 is not allowed"),
        ({"scales": Tensor((7, 1, 64), "bfloat16")}, "scales = shape (7, 1, 64) is not allowed"),
        ({"scales": Tensor((8, 1, 32), "bfloat16")}, "scales = shape (8, 1, 32) is not allowed"),
        ({"scales": Tensor((8, 1, 64), "uint8")}, "scales = dtype uint8 is not allowed"),
        (
            {"scales": Tensor((8, 1, 64), "bfloat16", device=(2, 1))},
            "scales = a tensor on CUDA device 1 is not allowed; allowed: one on CUDA device 0",
        ),
        (
            {"scales": Tensor((8, 1, 64), "bfloat16", byte_offset=2)},
            "scales = a misaligned pointer is not allowed",
        ),
        ({"b": Tensor((8, 8, 128), "int32", strides=(2048, 256, 1))}, "b = strides (2048, 256, 1)"),
    ],
)
def test_weights_that_do_not_go_together_are_refused(
    stub: Stub, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ExpertWeights(**{**weight_arguments(), **changes})
    assert str(caught.value).startswith(message)
    assert stub.calls() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"a": Tensor((4, 128), "float16")},
            "a_type = kFloat16 is not allowed; allowed: kBFloat16",
        ),
        (
            {"a": Tensor((4, 128), "float8_e4m3fn")},
            "a_type = kFE4M3fn is not allowed; allowed: kBFloat16, which the weights were prepared",
        ),
        ({"a": Tensor((4, 256), "bfloat16")}, "a = shape (4, 256) is not allowed"),
        ({"a_type": "kS8"}, "a = dtype bfloat16 is not allowed; allowed: int8 for kS8"),
        ({"a_scales": Tensor((4,), "float32")}, "a_scales = a tensor is not allowed"),
        ({"topk_weights": Tensor((7,), "float32")}, "topk_weights = shape (7,) is not allowed"),
        ({"top_k": 0}, "top_k = 0 is not allowed"),
        ({"top_k": 1 << 40}, f"top_k = {1 << 40} is not allowed; allowed: an integer of 32 bits"),
        ({"out": Tensor((8, 64), "float16")}, "out = dtype float16 is not allowed"),
        ({"out": Tensor((4, 64), "bfloat16")}, "out = shape (4, 64) is not allowed"),
        ({"config": (1, 2, 3)}, "config = a list is not allowed"),
    ],
)
def test_wrong_operands_of_the_gemm_are_refused(
    stub: Stub, changes: dict[str, Any], message: str
) -> None:
    given = gemm_arguments()
    stub.calls()
    with pytest.raises(InvalidArgumentError) as caught:
        marlin_moe.moe_gemm(**{**given, **changes})
    assert str(caught.value).startswith(message)
    assert stub.calls() == []


def test_lists_that_would_be_read_past_their_ends_are_refused(stub: Stub) -> None:
    given = gemm_arguments()
    blocks = given["alignment"]
    stub.calls()
    short = Tensor((blocks.sorted_token_ids.shape[0] - 1,), "int32")
    for field, tensor in (("sorted_token_ids", short), ("expert_ids", Tensor((1,), "int32"))):
        changed = blocks._replace(**{field: tensor})
        with pytest.raises(InvalidArgumentError, match=rf"^{field} = \d+ elements is not allowed"):
            marlin_moe.moe_gemm(**{**given, "alignment": changed})
    assert stub.calls() == []


def test_zero_points_that_nobody_reads_are_refused(stub: Stub) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^qzeros = a tensor is not allowed"):
        marlin_moe.repack_awq(
            Tensor((8, 64, 8), "int32"), b_type="kU4", qzeros=Tensor((8, 1, 8), "int32")
        )
    with pytest.raises(InvalidArgumentError, match=r"^topk_ids = None is not allowed"):
        marlin_moe.topk_sum(Tensor((4, N), "float16"), top_k=2, num_experts=4)
    assert stub.calls() == []
