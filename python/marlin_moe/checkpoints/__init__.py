"""Checkpoints of the formats that people have, as weights that the preparation takes.

One module for each format reads its tensors into a Matrix; `prepared` makes ExpertWeights of it,
and `files` reads the tensors from safetensors. ExpertWeights.from_gptq() and its like call them.
"""

from .files import read_experts

__all__ = ["read_experts"]
