"""Streams, devices, memory, and tensors that speak another protocol than DLPack."""

from __future__ import annotations

import sys
import threading
import types
from pathlib import Path
from typing import Any

import marlin_moe
import pytest
from capsules import CUDA, FakeTensor, Memory
from marlin_moe import InvalidArgumentError, TensorView, Workspace, _library
from stub import Stub


class Interface:
    """A tensor that speaks __cuda_array_interface__ only."""

    def __init__(self, shape: tuple[int, ...], typestr: str, **changes: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "data": (0x7F0000002000, False),
            "strides": None,
            "version": 3,
            **changes,
        }


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (None, 0),
        (0, 0),
        (0x5000, 0x5000),
        (types.SimpleNamespace(cuda_stream=0x6000), 0x6000),
        (types.SimpleNamespace(ptr=0x7000), 0x7000),
        (types.SimpleNamespace(__cuda_stream__=lambda: (0, 0x8000)), 0x8000),
    ],
)
def test_streams_are_handed_to_library_and_producers(
    stub: Stub, memory: Memory, stream: Any, handle: int
) -> None:
    x = memory((4, 64), "float16")
    marlin_moe.silu_and_mul(x, stream=stream, empty=memory)
    assert stub.call("silu_and_mul")["stream"] == handle
    # DLPack calls the legacy default stream 1.
    assert x.streams == [handle or 1]


@pytest.mark.parametrize("stream", [-1, True, "0", object()])
def test_what_is_no_stream_is_refused(stub: Stub, memory: Memory, stream: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^stream = "):
        marlin_moe.silu_and_mul(memory((4, 64), "float16"), stream=stream, empty=memory)
    assert stub.calls() == []


def test_tensors_are_given_back_after_the_call(stub: Stub, memory: Memory) -> None:
    x = memory((4, 64), "float16")
    out = marlin_moe.silu_and_mul(x, empty=memory)
    for tensor in (x, out):
        assert (tensor.producer.deleted, tensor.producer.destroyed) == (1, 0)


def test_producers_from_before_dlpack_1(stub: Stub, memory: Memory) -> None:
    class Old(FakeTensor):
        def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
            return self.producer.capsule()

    x = Old((4, 64), "float16")
    marlin_moe.silu_and_mul(x, empty=memory)
    assert stub.call("silu_and_mul")["x"] == x.pointer


@pytest.mark.parametrize("current", [0, 1, -1])
@pytest.mark.parametrize("device", [0, 1])
def test_calls_run_on_the_tensors_device(
    stub: Stub, memory: Memory, current: int, device: int
) -> None:
    stub.set_device(current)
    x = FakeTensor((4, 64), "float16", device=(CUDA, device))
    out = marlin_moe.silu_and_mul(x, empty=memory)
    assert out._device == (CUDA, device)
    assert stub.call("silu_and_mul")["device"] == device
    # The caller's device is current again.
    stub._library.marlin_moe_gemm_block_size(1, 1, 1, 1)
    assert stub.call("gemm_block_size")["device"] == current


def test_tensors_are_exported_from_their_device(stub: Stub) -> None:
    devices = []

    class Watching(FakeTensor):
        def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
            stub._library.marlin_moe_gemm_block_size(1, 1, 1, 1)
            devices.append(stub.call("gemm_block_size")["device"])
            return self.producer.capsule()

    x = Watching((4, 64), "float16", device=(CUDA, 2))
    marlin_moe.silu_and_mul(x, out=Watching((4, 32), "float16", device=(CUDA, 2)))
    assert devices == [2, 2]


def test_cuda_array_interface(stub: Stub, memory: Memory) -> None:
    x = Interface((4, 64), "<f2", strides=(256, 2))
    out = memory((4, 64), "int8")
    scales = memory((4,), "float32")
    marlin_moe.quantize_activations(
        x, out_type="kS8", out=marlin_moe.QuantizedActivations(out, scales)
    )
    fields = stub.call("quantize_activations")
    assert (fields["x"], fields["x_stride"], fields["x_type"]) == (0x7F0000002000, 128, 1)


def test_cuda_array_interface_tells_no_device_but_the_pointer_does(
    stub: Stub, memory: Memory
) -> None:
    x = Interface((4, 64), "<f2", data=(0x7F0000002000 + (3 << 32), False))
    marlin_moe.silu_and_mul(x, empty=memory)
    assert stub.call("silu_and_mul")["device"] == 3


@pytest.mark.parametrize(
    ("given", "waits"), [(None, []), (0x5000, []), (0x9000, [0x9000]), (1, [1])]
)
def test_cuda_array_interface_streams_are_waited_for(
    stub: Stub, memory: Memory, given: int | None, waits: list[int]
) -> None:
    x = Interface((4, 64), "<f2", stream=given)
    marlin_moe.silu_and_mul(x, stream=0x5000, empty=memory)
    calls = stub.calls()
    assert [fields["stream"] for name, fields in calls if name == "event_record"] == waits
    assert [fields["stream"] for name, fields in calls if name == "stream_wait"] == [
        0x5000 for _ in waits
    ]
    assert calls[-1][0] == "silu_and_mul"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"typestr": ">f2"}, "x = typestr '>f2' is not allowed"),
        ({"typestr": "<M8"}, "x = typestr '<M8' is not allowed"),
        ({"typestr": "<f4"}, "x = dtype float32 is not allowed"),
        ({"strides": (129, 2)}, "x = strides (129, 2) in bytes is not allowed"),
    ],
)
def test_wrong_cuda_array_interfaces(
    stub: Stub, memory: Memory, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        marlin_moe.silu_and_mul(Interface((4, 64), **{"typestr": "<f2", **changes}), empty=memory)
    assert str(caught.value).startswith(message)


def test_read_only_cuda_array_interfaces_are_no_outputs(stub: Stub, memory: Memory) -> None:
    out = Interface((4, 32), "<f2", data=(0x7F0000002000, True))
    with pytest.raises(InvalidArgumentError, match=r"^out = a read-only tensor"):
        marlin_moe.silu_and_mul(memory((4, 64), "float16"), out=out)


def test_views_are_tensors(stub: Stub) -> None:
    x = TensorView(0x7F0000004000, (4, 64), "bfloat16", 0)
    out = TensorView(0x7F0000008000, (4, 32), "bfloat16", 0)
    assert marlin_moe.silu_and_mul(x, out=out) is out
    fields = stub.call("silu_and_mul")
    assert (fields["x"], fields["out"]) == (x.pointer, out.pointer)


def fake_torch(monkeypatch: pytest.MonkeyPatch, memory: Memory) -> type:
    """Puts a module named torch in place, and returns the class of its tensors."""
    torch: Any = types.ModuleType("torch")
    torch.float16, torch.uint8, torch.int32 = "float16", "uint8", "int32"
    torch.cuda = types.SimpleNamespace(
        current_stream=lambda device: types.SimpleNamespace(cuda_stream=0xABC0)
    )

    class Tensor(FakeTensor):
        is_cuda = True
        device = "cuda:0"

        def new_empty(self, shape: Any, dtype: str, requires_grad: bool) -> FakeTensor:
            assert not requires_grad
            return memory(shape, dtype)

    Tensor.__module__ = "torch._tensor"
    monkeypatch.setitem(sys.modules, "torch", torch)
    return Tensor


def test_outputs_and_stream_of_the_inputs_framework(
    stub: Stub, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = fake_torch(monkeypatch, memory)
    parameter = type("Parameter", (kind,), {"__module__": "somebody.elses"})
    for tensor in (kind((4, 64), "float16"), parameter((4, 64), "float16")):
        out = marlin_moe.silu_and_mul(tensor)
        assert out is memory.made[-1]
        fields = stub.call("silu_and_mul")
        assert (fields["out"], fields["stream"]) == (out.pointer, 0xABC0)
        # It is the framework's own stream: there is nothing to wait for.
        assert tensor.streams == [-1]


def test_a_frameworks_other_streams_wait_for_it(
    stub: Stub, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = fake_torch(monkeypatch, memory)((4, 64), "float16")
    marlin_moe.silu_and_mul(x, stream=0xABC0)
    marlin_moe.silu_and_mul(x, stream=0xDEF0)
    other = memory((4, 32), "float16")
    marlin_moe.silu_and_mul(x, out=other)
    assert x.streams == [-1, 0xDEF0, -1]
    assert other.streams == [0xABC0]


def test_a_type_that_the_framework_lacks_is_told(
    stub: Stub, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = fake_torch(monkeypatch, memory)((4, 64), "bfloat16")
    with pytest.raises(InvalidArgumentError, match="torch makes none of bfloat16"):
        marlin_moe.silu_and_mul(x)


def test_other_frameworks_need_out_or_empty(stub: Stub, memory: Memory) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        marlin_moe.silu_and_mul(memory((4, 64), "float16"))
    message = str(caught.value)
    assert message.startswith("out = None is not allowed; allowed: a tensor of shape (4, 32)")
    assert "empty=" in message


def test_nothing_imports_a_framework() -> None:
    assert not {"torch", "jax", "cupy"} & set(sys.modules)


def align(memory: Memory, **options: Any) -> Any:
    ids = memory((6, 2), "int32")
    return marlin_moe.moe_align(ids, num_experts=8, block_size=8, empty=memory, **options)


def test_workspaces_are_kept_for_each_stream_and_device(stub: Stub, memory: Memory) -> None:
    stub.set_bytes(0, 1000)
    places = []
    for stream in (0x5000, 0x5000, 0x6000):
        align(memory, stream=stream)
        places.append(stub.call("align")["workspace"])
    assert places[0] == places[1] != places[2]
    made = [tensor for tensor in memory.made if tensor.dtype == "uint8"]
    assert [tensor.shape for tensor in made] == [(1256,), (1256,)]
    assert all(tensor.producer.deleted == 1 for tensor in made)


def test_workspaces_grow_and_keep_what_graphs_hold(stub: Stub, memory: Memory) -> None:
    workspace = Workspace()
    for size in (1000, 1500, 1700, 5000):
        stub.set_bytes(0, size)
        align(memory, workspace=workspace)
        assert stub.call("align")["workspace_bytes"] >= size
    made = [tensor for tensor in memory.made if tensor.dtype == "uint8"]
    assert [tensor.shape[0] - 256 for tensor in made] == [1000, 2000, 5000]
    assert workspace.bytes == 5000
    assert workspace._owners == made
    workspace.clear()
    assert workspace._owners == []


def test_workspaces_are_aligned_whatever_memory_they_are_made_of(
    stub: Stub, memory: Memory
) -> None:
    stub.set_bytes(0, 1000)
    memory._next += 3
    align(memory)
    [owner] = [tensor for tensor in memory.made if tensor.dtype == "uint8"]
    fields = stub.call("align")
    start = fields["workspace"]
    assert start % 256 == 0
    assert owner.pointer <= start
    assert start + fields["workspace_bytes"] <= owner.pointer + owner.shape[0]


def test_only_workspaces_that_need_it_are_zeroed_and_once(stub: Stub, memory: Memory) -> None:
    from marlin_moe import Alignment, ExpertWeights

    a = memory((6, 256), "bfloat16")
    weights = ExpertWeights(
        memory((8, 16, 1024), "int32"), memory((8, 2, 512), "bfloat16"), "kU4B8", 128
    )
    blocks = Alignment(memory((64,), "int32"), memory((4,), "int32"), memory((1,), "int32"), 16)
    workspace = Workspace()
    stub.set_bytes(3000, 1000)
    align(memory, workspace=workspace)
    for atomic in (False, False, True, True):
        marlin_moe.moe_gemm(
            a, weights, blocks, top_k=2, atomic_reduce=atomic, workspace=workspace, empty=memory
        )
    calls = stub.calls()
    zeroed = [fields for name, fields in calls if name == "memset"]
    used = [fields["workspace"] for name, fields in calls if name == "gemm"]
    assert used[0] == used[1] != used[2] == used[3]
    assert [fields["pointer"] for fields in zeroed] == [used[0], used[2]]
    assert all(fields["bytes"] == 3000 and fields["value"] == 0 for fields in zeroed)


def test_no_workspace_is_made_where_none_is_needed(stub: Stub, memory: Memory) -> None:
    align(memory)
    fields = stub.call("align")
    assert (fields["workspace"], fields["workspace_bytes"]) == (0, 0)
    assert all(tensor.dtype == "int32" for tensor in memory.made)


def test_threads_can_call(stub: Stub) -> None:
    memories = [Memory() for _ in range(8)]

    def work(memory: Memory) -> None:
        for _ in range(50):
            marlin_moe.silu_and_mul(memory((4, 64), "float16"), empty=memory)

    threads = [threading.Thread(target=work, args=(memory,)) for memory in memories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tensors = [tensor for memory in memories for tensor in memory.made]
    assert len(tensors) == 8 * 50 * 2
    assert all(tensor.producer.deleted == 1 for tensor in tensors)


def test_a_library_that_is_not_there_is_told(
    stub: Stub, memory: Memory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x = memory((4, 64), "float16")
    monkeypatch.setenv("MARLIN_MOE_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(marlin_moe.LibraryError, match=r"none\.so is not a file"):
        marlin_moe.silu_and_mul(x)
    (tmp_path / "text.so").write_text("not a library")
    monkeypatch.setenv("MARLIN_MOE_LIBRARY", str(tmp_path / "text.so"))
    with pytest.raises(marlin_moe.LibraryError, match="cannot be loaded"):
        marlin_moe.silu_and_mul(x)
    monkeypatch.delenv("MARLIN_MOE_LIBRARY")
    monkeypatch.setattr(_library, "__file__", str(tmp_path / "_library.py"))
    with pytest.raises(marlin_moe.LibraryError, match="set MARLIN_MOE_LIBRARY"):
        marlin_moe.silu_and_mul(x)


def test_a_library_of_another_kind_is_told(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_library._abi, "FUNCTIONS", {"of_the_future": []})
    with pytest.raises(marlin_moe.LibraryError, match="not this package's version"):
        marlin_moe.moe_gemm_block_size(1, 8, 2)


def test_no_device_is_told(stub: Stub, memory: Memory) -> None:
    stub.set_init_status(100)
    with pytest.raises(marlin_moe.CudaError, match="cuInit: no CUDA-capable device is detected"):
        marlin_moe.silu_and_mul(memory((4, 64), "float16"), empty=memory)
