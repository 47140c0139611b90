"""Architectures as runs spell them, and what sets them apart from GPT2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GPT2 = "GPT2"
LLAMA = "LLaMA"
MISTRAL = "Mistral"
GPT2_QUARTER = "GPT2_quarter"
"""GPT2 whose MLP is as wide as the model, a quarter of the usual width."""
GPT2_0 = "GPT2_0"
"""GPT2 without MLPs."""

LLAMA_TOKENIZER = "LLaMA"

_GPT2 = {
    "tied": True,
    "gated": False,
    "activation": "gelu",
    "normalization": "LayerNorm",
    "add_bias": True,
    "num_moe_experts": 0,
}
# PAPER 2.3, B: LLaMA and Mistral have gated MLPs, silu, no biases, and do not tie embeddings.
_LLAMA = _GPT2 | {
    "tied": False,
    "gated": True,
    "activation": "silu",
    "normalization": "RMSNorm",
    "add_bias": False,
}

SWITCHES: Mapping[str, Mapping[str, Any]] = {
    GPT2: _GPT2,
    LLAMA: _LLAMA,
    MISTRAL: _LLAMA,
    GPT2_QUARTER: _GPT2,
    GPT2_0: _GPT2,
}
"""By family, what a run has unless its record says otherwise."""
