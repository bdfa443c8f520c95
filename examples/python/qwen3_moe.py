"""A Qwen3-MoE model of transformers whose experts are INT4 and run on this package's kernels.

    MARLIN_MOE_LIBRARY=libmarlin_moe_ffi.so python3 examples/python/qwen3_moe.py

It needs a GPU, PyTorch, transformers 5 and apache-tvm-ffi, and downloads nothing: the weights are
random. Layers have the sizes of Qwen3-30B-A3B; there are as many as --layers says. The experts of
each are rounded to INT4 with a scale for 128 weights, as GPTQ stores them, and swapped for a module
of the same interface.

Three models then have the same weights, those that INT4 stands for: in float32, which the others
are compared with, in bfloat16, and with the swapped experts. The logits of a prompt may be off by
at most twice what bfloat16 is. At last generate() runs with both, and its tokens per second are
printed. Exit status 1 if the logits are not as they should be.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time

import marlin_moe
import marlin_moe.torch
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

_GROUP = 128
_ZERO = 8  # INT4 weights are 0 ... 15 with this for zero


class Int4Experts(torch.nn.Module):
    """In the place of transformers' experts: the same call, weights in INT4."""

    def __init__(self, gate_up: dict[str, torch.Tensor], down: dict[str, torch.Tensor]) -> None:
        super().__init__()
        weights = marlin_moe.ExpertWeights
        self.experts = marlin_moe.torch.Experts(
            weights.from_gptq(gate_up, gate_up="concatenated"), weights.from_gptq(down)
        )

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """Runs the experts of [tokens, hidden]; transformers has int64 ids and 16-bit weights."""
        result: torch.Tensor = self.experts(hidden_states, top_k_weights.float(), top_k_index.int())
        return result


def quantise(weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Rounds [experts, n, k] to INT4, and returns it as GPTQ stores it: k first, 8 to a word."""
    groups = weights.float().mT.unflatten(1, (-1, _GROUP))  # [experts, k / 128, 128, n]
    scales = (groups.abs().amax(dim=2) / (_ZERO - 1)).to(torch.bfloat16)
    codes = torch.round(groups / scales.float().unsqueeze(2)).clamp(-_ZERO, _ZERO - 1) + _ZERO
    shifts = torch.arange(0, 32, 4, device=weights.device)[:, None]
    words = (codes.long().flatten(1, 2).unflatten(1, (-1, 8)) << shifts).sum(dim=2)
    return {"qweight": words.to(torch.int32), "scales": scales}


def dequantise(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns the float32 weights [experts, n, k] that quantise() stands for."""
    shifts = torch.arange(0, 32, 4, device=tensors["qweight"].device)[:, None]
    codes = (tensors["qweight"].unsqueeze(2) >> shifts & 15).flatten(1, 2)
    scales = tensors["scales"].float().repeat_interleave(_GROUP, dim=1)
    return ((codes - _ZERO).float() * scales).mT.contiguous()


def make_models(
    config: Qwen3MoeConfig, device: str
) -> tuple[Qwen3MoeForCausalLM, Qwen3MoeForCausalLM, Qwen3MoeForCausalLM]:
    """Returns the model in float32, in bfloat16 and with INT4 experts, all of the same weights."""
    with torch.device(device):
        exact = Qwen3MoeForCausalLM(config).eval().to(torch.bfloat16).float()
    int4 = copy.deepcopy(exact).to(torch.bfloat16)
    for layer, swapped in zip(exact.model.layers, int4.model.layers, strict=True):
        experts = layer.mlp.experts
        gate_up, down = (quantise(experts.gate_up_proj), quantise(experts.down_proj))
        experts.gate_up_proj.data = dequantise(gate_up)
        experts.down_proj.data = dequantise(down)
        swapped.mlp.experts = Int4Experts(gate_up, down)
    return exact, copy.deepcopy(exact).to(torch.bfloat16), int4


def distance(model: Qwen3MoeForCausalLM, prompt: torch.Tensor, exact: torch.Tensor) -> float:
    """Returns the logits' mean error, as a share of the root mean square of the exact ones."""
    error = (model(prompt).logits.float() - exact).abs().mean()
    return float(error / exact.square().mean().sqrt())


def tokens_per_second(model: Qwen3MoeForCausalLM, prompt: torch.Tensor, count: int) -> float:
    """Generates `count` tokens twice, and times the second run."""
    for _ in range(2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        made = model.generate(
            prompt, min_new_tokens=count, max_new_tokens=count, do_sample=False, pad_token_id=0
        )
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    if made.shape != (prompt.shape[0], prompt.shape[1] + count):
        raise RuntimeError(f"generate() made {tuple(made.shape)} of {tuple(prompt.shape)}")
    return prompt.shape[0] * count / seconds


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--intermediate", type=int, default=768)
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--top-k", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the prompt")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=4096,
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        moe_intermediate_size=options.intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=64,
        num_experts=options.experts,
        num_experts_per_tok=options.top_k,
        norm_topk_prob=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    prompt = torch.randint(0, config.vocab_size, (1, options.prompt), device=options.device)
    with torch.inference_mode():
        exact, bfloat16, int4 = make_models(config, options.device)
        logits = exact(prompt).logits
        del exact
        theirs, ours = (distance(model, prompt, logits) for model in (bfloat16, int4))
        print(f"mean error of the logits: {theirs:.4f} in bfloat16, {ours:.4f} with INT4 experts")
        for name, model in (("bfloat16", bfloat16), ("INT4 experts", int4)):
            rate = tokens_per_second(model, prompt, options.new_tokens)
            print(f"generate(), {name}: {rate:.1f} tokens per second")
    fine = ours <= 2 * theirs
    print("the logits are as they should be" if fine else "the logits are wrong")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
