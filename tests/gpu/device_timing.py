"""Device times that PyTorch takes: of CUDA graphs that it captures, of copies and products."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch
from bench_points import FEW_TOKENS
from moe_gemm_lib import MoeGemmLibrary
from workload import Workload

# Half of the most bytes that a timed copy moves.
_COPY_BYTES = 2 << 30
# Two ways to copy: the driver's, and a kernel that reads and writes as much.
_COPIES: tuple[Callable[[torch.Tensor, torch.Tensor], object], ...] = (
    lambda source, target: target.copy_(source),
    lambda source, target: torch.bitwise_not(source, out=target),
)


class Launches:
    """A CUDA graph of launches, on a stream of its own.

    `launch(i)` puts launch number i on the current stream; the first is made once before the
    capture, so that its kernel is loaded.
    """

    def __init__(self, launch: Callable[[int], object], count: int) -> None:
        self._count = count
        self._stream = torch.cuda.Stream()
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            launch(0)
            self._stream.synchronize()
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                for index in range(count):
                    launch(index)
            finally:
                self._graph.capture_end()
            self._graph.replay()
        self._stream.synchronize()

    def times(self, replays: int) -> list[float]:
        """Returns the microseconds of a launch, of each of some replays that follow each other.

        All are queued at once, so that the host's time between them is in no figure.
        """
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(replays)]
        with torch.cuda.stream(self._stream):
            self._graph.replay()
            for begin, end in pairs:
                begin.record()
                self._graph.replay()
                end.record()
        self._stream.synchronize()
        return [begin.elapsed_time(end) * 1e3 / self._count for begin, end in pairs]


def alternate(sides: Sequence[Callable[[int], list[float]]], replays: int) -> list[float]:
    """Returns the median of each side's times; the sides take turns, so that drift meets both.

    A side is called with a number of replays, as Launches.times is.
    """
    turns = min(4, replays)
    samples: list[list[float]] = [[] for _ in sides]
    for _ in range(turns):
        for side, found in zip(sides, samples, strict=True):
            found.extend(side(-(-replays // turns)))
    return [statistics.median(found) for found in samples]


class CopyTimer:
    """Times copies that read from a large tensor, of bytes that are not in the cache."""

    def __init__(self, source: torch.Tensor) -> None:
        self._source = source
        words = min(_COPY_BYTES // source.itemsize, source.numel())
        self._target = torch.empty(words, dtype=source.dtype, device=source.device)

    def microseconds(self, moved: float, launches: int) -> float:
        """Returns the median microseconds of a copy that reads and writes `moved` bytes in total.

        It is one of a CUDA graph of so many, and the faster of two ways to copy.
        """
        words = int(moved) // 2 // 16 * 16 // self._source.itemsize
        sides = [
            Launches(lambda i, copy=copy: self._copy(copy, i, words), launches).times
            for copy in _COPIES
        ]
        return min(alternate(sides, 6))

    def _copy(
        self, copy: Callable[[torch.Tensor, torch.Tensor], object], index: int, words: int
    ) -> None:
        def part(memory: torch.Tensor) -> torch.Tensor:
            first = index % (memory.numel() // words) * words
            return memory[first : first + words]

        copy(part(self._source), part(self._target))


class ReadTimer:
    """Times kernels that read the weights that a GEMM reads, and do nothing else."""

    def __init__(self, library: MoeGemmLibrary) -> None:
        self._library = library
        self._sink = torch.zeros(1, dtype=torch.int32, device="cuda")

    def microseconds(self, workload: Workload, launches: int) -> float:
        """Returns the median microseconds of one of a CUDA graph of so many, the fastest way."""
        reads = [workload.reads(index) for index in range(len(workload.routings))]

        def launch(index: int, way: int) -> None:
            operands, experts = reads[index % len(reads)]
            self._library.read(
                operands,
                (experts.data_ptr(), experts.numel()),
                self._sink.data_ptr(),
                way,
                torch.cuda.current_stream().cuda_stream,
            )

        sides = [
            Launches(lambda i, way=way: launch(i, way), launches).times
            for way in range(self._library.read_ways())
        ]
        return min(alternate(sides, 6))


class WeightTimer:
    """Says how fast a GEMM reads its weights, beside copies and kernels that only read them."""

    def __init__(self, library: MoeGemmLibrary, source: torch.Tensor) -> None:
        """`source` is large: what copies read."""
        self._copies = CopyTimer(source)
        self._reads = ReadTimer(library)

    def figures(
        self, workload: Workload, tokens: int, microseconds: float, launches: int
    ) -> dict[str, float | None]:
        """Returns a point's figures; `microseconds` is the time of one of the GEMM's launches."""
        few = tokens <= FEW_TOKENS
        return {
            "experts_read": workload.experts_read,
            "weight_bytes": workload.weight_bytes,
            "weight_gb_s": workload.weight_bytes / microseconds / 1e3,
            "copy_same_bytes_us": self._copies.microseconds(workload.weight_bytes, launches),
            "read_us": self._reads.microseconds(workload, launches) if few else None,
        }


def copy_bandwidth(device: str) -> float:
    """Returns the GB/s that a large copy on the device moves, counting both directions."""
    source = torch.empty(1 << 31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _torch_microseconds(lambda: target.copy_(source)) / 1e3


def matmul_rate(device: str) -> float:
    """Returns the TFLOP/s of PyTorch's bf16 product of two 8192 x 8192 matrices."""
    a = torch.randn((8192, 8192), device=device, dtype=torch.bfloat16)
    out = torch.empty_like(a)
    return 2 * 8192**3 / _torch_microseconds(lambda: torch.mm(a, a, out=out)) / 1e6


def _torch_microseconds(run: Callable[[], object]) -> float:
    samples = []
    for _ in range(12):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(samples[2:])
