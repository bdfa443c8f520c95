"""Measures which kernels a layer is fastest with, for later processes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ._function import needed, of_jax
from ._library import function
from ._tuning_file import Key, file_name, write
from .align import moe_align
from .errors import LibraryError, invalid
from .gemm import GemmConfig, moe_gemm
from .layer import MoeLayer

_LAUNCHES = 10
_ROUNDS = 7
# Of the device's clock, while the launches queue up.
_DELAY = 1_000_000
# What a choice has to save to be taken in the place of the library's.
_LEAST_GAIN = 0.01


def tune(
    layer: MoeLayer, tokens: Sequence[int], *, top_k: int, file: str | None = None
) -> list[dict[str, Any]]:
    """Measures block sizes and tiles of both GEMMs, and writes the fastest to a file.

    MoeLayer takes what the file says, for the closest number of tokens: of layers with the same
    sizes, types and GPU, and the same version of the package. Tokens are random and spread evenly
    over the experts. It takes seconds, needs PyTorch and wants the GPU for itself.

    Args:
      layer: the layer, on the GPU that it will run on.
      tokens: numbers of tokens to measure.
      top_k: experts of a token.
      file: where to; None: the file that the environment variable MARLIN_MOE_TUNING names. What it
        says of other layers and numbers of tokens stays.

    Returns:
      for each number of tokens, a dictionary: `tokens`, `top_k`, `block_size`, `gate_up` and `down`
      (a GemmConfig as a list, or None for the library's choice), `microseconds` of both GEMMs with
      their alignment, and `built_in_microseconds`, the same with the library's choice.

    Raises:
      InvalidArgumentError: an argument is refused, or the file is of another version.
      LibraryError: there is no PyTorch.
    """
    name = file_name(file)
    if name is None:
        raise invalid("file", None, "a path, where MARLIN_MOE_TUNING names none")
    if of_jax(needed("layer", layer, MoeLayer).gate_up.handle):
        raise invalid("layer", "a layer of arrays of JAX", "one of another framework")
    key = Key.of(layer.gate_up, layer.down, layer.num_experts)
    for number in (*tokens, top_k):
        if type(number) is not int or number < 1:
            raise invalid("tokens, top_k", number, "integers from 1 on")
    if top_k > key.num_experts:
        raise invalid("top_k", top_k, f"at most the {key.num_experts} experts")
    try:
        import torch
    except ImportError as error:
        raise LibraryError(f"tune() needs PyTorch: {error}") from error
    with torch.no_grad():
        choices = [_Measurement(torch, layer, m, top_k).fastest() for m in tokens]
    write(name, key, choices)
    return choices


class _Measurement:
    """One number of tokens."""

    def __init__(self, torch: Any, layer: MoeLayer, tokens: int, top_k: int) -> None:
        self._torch = torch
        self._layer = layer
        self._top_k = top_k
        gate_up, down = layer.gate_up, layer.down
        self._num_experts = layer.num_experts or gate_up.b.shape[0]
        _, index = gate_up.b.__dlpack_device__()
        self._device = torch.device("cuda", index)
        generator = torch.Generator(self._device).manual_seed(tokens)
        scores = torch.rand((tokens, self._num_experts), device=self._device, generator=generator)
        self._ids = torch.topk(scores, top_k, dim=1).indices.int()
        self._inputs = [
            self._activations(weights, rows)
            for weights, rows in ((gate_up, tokens), (down, tokens * top_k))
        ]

    def _activations(self, weights: Any, rows: int) -> dict[str, Any]:
        """Returns random activations of the type that a GEMM takes."""
        torch = self._torch
        a = torch.randn((rows, 16 * weights.b.shape[1]), device=self._device)
        if weights.a_type is None:
            scales = str(weights.scales.dtype).rpartition(".")[2]
            half = (weights.c_type or scales) in ("kFloat16", "float16")
            return {"a": a.to(torch.float16 if half else torch.bfloat16)}
        eight = torch.int8 if weights.a_type == "kS8" else torch.float8_e4m3fn
        return {"a": (40 * a).to(eight), "a_scales": torch.ones((rows,), device=self._device)}

    def fastest(self) -> dict[str, Any]:
        """Returns the fastest choice, which may be the library's."""
        sizes = self._candidates()
        built_in = self._built_in()
        best: dict[str, Any] = {**built_in, "gate_up": None, "down": None}
        for size, tiles in sizes:
            total = self._align_time(size)
            found = {}
            for gemm, name in enumerate(("gate_up", "down")):
                times = {tile: self._gemm_time(gemm, size, tile) for tile in tiles[gemm]}
                found[name] = min(times, key=lambda tile: times[tile])
                total += times[found[name]]
            limit = (1 - _LEAST_GAIN) * built_in["microseconds"]
            if total < min(best["microseconds"], limit):
                chosen = {name: list(tile) for name, tile in found.items()}
                best = {"block_size": size, "microseconds": total, **chosen}
        return {
            "tokens": self._ids.shape[0],
            "top_k": self._top_k,
            **best,
            "built_in_microseconds": built_in["microseconds"],
        }

    def _candidates(self) -> Iterator[tuple[int, list[list[GemmConfig]]]]:
        """Yields the block sizes that both GEMMs have tiles for, with these."""
        both = []
        for weights in (self._layer.gate_up, self._layer.down):
            tiles: dict[int, list[GemmConfig]] = {}
            for size, *tile in function("moe_gemm_tiles")(weights.handle):
                tiles.setdefault(int(size), []).append(GemmConfig(*map(int, tile)))
            both.append(tiles)
        for size in sorted(both[0].keys() & both[1].keys()):
            yield size, [tiles[size] for tiles in both]

    def _built_in(self) -> dict[str, Any]:
        """Measures what the layer does without a file."""
        layer = self._layer
        size = int(
            function("layer_block_size")(
                layer.gate_up.handle,
                layer.down.handle,
                self._num_experts,
                None,
                None,
                *self._ids.shape,
            )
        )
        total = self._align_time(size)
        total += sum(self._gemm_time(gemm, size, None) for gemm in (0, 1))
        return {"block_size": size, "microseconds": total}

    def _align(self, size: int) -> Any:
        options = {"num_experts": self._num_experts, "expert_map": self._layer.expert_map}
        return moe_align(self._ids, block_size=size, drop_remote=True, **options)

    def _align_time(self, size: int) -> float:
        return self._time(lambda: self._align(size))

    def _gemm_time(self, gemm: int, size: int, config: GemmConfig | None) -> float:
        weights = (self._layer.gate_up, self._layer.down)[gemm]
        blocks, options = self._align(size), self._inputs[gemm]
        top_k = 1 if gemm else self._top_k
        return self._time(
            lambda: moe_gemm(
                weights=weights, alignment=blocks, top_k=top_k, config=config, **options
            )
        )

    def _time(self, run: Callable[[], Any]) -> float:
        """Returns the median of a call's microseconds on the device."""
        torch = self._torch
        with torch.cuda.device(self._device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            times: list[float] = []
            for _ in range(_ROUNDS):
                torch.cuda._sleep(_DELAY)
                run()
                begin.record()
                for _ in range(_LAUNCHES):
                    run()
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end) * 1e3 / _LAUNCHES)
        return statistics.median(times)
