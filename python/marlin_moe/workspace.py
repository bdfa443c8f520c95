"""Scratch memory of calls: kept from call to call, and made like all other memory.

Memory comes from the caller's `empty` function or from the framework of a call's first tensor, as
outputs do; nothing is allocated behind their backs. Buffers only grow, and outgrown ones are kept,
so that CUDA graphs which were captured with them stay valid.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._call import Call
from .tensor import TensorView

_ALIGNMENT = 256


class Workspace:
    """Scratch memory for calls that run one after the other, on one stream.

    Calls without one share a workspace for each device and stream (on cudaStreamPerThread for each
    thread as well), which is kept until clear_workspaces(). Make one of your own to decide how long
    it lives, and run once before capturing a CUDA graph, so that nothing is allocated during the
    capture.
    """

    def __init__(self) -> None:
        # Held from the first to the last launch of a call: threads may share the stream.
        self.lock = threading.RLock()
        self._buffers: dict[tuple[str, int], TensorView] = {}
        self._owners: list[Any] = []

    @property
    def bytes(self) -> int:
        """What is in use now, outgrown buffers left out."""
        return sum(view.size for view in self._buffers.values())

    def clear(self) -> None:
        """Lets go of the memory; work that uses it has to be finished."""
        with self.lock:
            self._buffers.clear()
            self._owners.clear()

    def buffer(self, call: Call, use: str, size: int, *, zeroed: bool = False) -> TensorView:
        """Returns at least `size` bytes, aligned to 256.

        Args:
          call: the call that will use them.
          use: what for; each use has a buffer of its own.
          size: bytes, may be 0.
          zeroed: whether the bytes are zero before the first call that uses them.
        """
        known = self._buffers.get((use, call.device))
        if known is not None and known.size >= size:
            return known
        if known is not None:
            size = max(size, 2 * known.size)
        owner = call.new("workspace", (size + _ALIGNMENT,), "uint8")
        whole = call.tensor(
            "workspace", owner, ("uint8",), (size + _ALIGNMENT,), "[bytes]", output=True
        )
        start = (whole.pointer + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
        view = TensorView(start, (size,), "uint8", call.device)
        if zeroed:
            call.zero(view)
        self._owners.append(owner)
        self._buffers[use, call.device] = view
        return view


_STREAM_PER_THREAD = 2  # cudaStreamPerThread

_lock = threading.Lock()
_shared: dict[tuple[int, int, int], Workspace] = {}
_numbers = itertools.count(1)


class _Thread(threading.local):
    """Each thread's number, which no other has or will have, as identifiers of threads may be."""

    def __init__(self) -> None:
        self.number = next(_numbers)


_this_thread = _Thread()


def shared_workspace(call: Call) -> Workspace:
    """Returns the workspace of a call's device and stream, for calls that are given none.

    Threads share it, but on cudaStreamPerThread, which is another stream in each of them.
    """
    thread = _this_thread.number if call.stream == _STREAM_PER_THREAD else 0
    with _lock:
        return _shared.setdefault((call.device, call.stream, thread), Workspace())


def clear_workspaces() -> None:
    """Lets go of all memory that calls without a workspace have kept.

    The work that uses it has to be finished: synchronise before.
    """
    with _lock:
        for workspace in _shared.values():
            workspace.clear()
        _shared.clear()


@contextmanager
def scratch(
    call: Call, given: Any, use: str, size: int, *, zeroed: bool = False
) -> Iterator[tuple[int | None, int]]:
    """Holds the scratch memory of one launch while the block runs.

    Args:
      call: the call that will use it.
      given: the caller's workspace: None for the shared one, a Workspace, or a tensor.
      use: as Workspace.buffer() takes it.
      size: bytes needed. A tensor of another size is passed on as it is: the library judges it.
      zeroed: as Workspace.buffer() takes it; a tensor has to be zero already.

    Yields:
      address and number of bytes.
    """
    if given is not None and not isinstance(given, Workspace):
        view = call.tensor("workspace", given, None, None, "[bytes]", output=True)
        yield view.pointer, view.size * view.dtype_bytes
    elif size == 0:
        yield None, 0
    else:
        workspace = shared_workspace(call) if given is None else given
        with workspace.lock:
            view = workspace.buffer(call, use, size, zeroed=zeroed)
            yield view.pointer, view.size
