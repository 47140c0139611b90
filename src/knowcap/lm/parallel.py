"""Devices and process groups: the only global state, and the only door to Megatron-core.

Megatron-core insists on process groups and, in places, on a GPU. :func:`start` makes a process a
world of its own, and on a machine without a GPU adapts what Megatron assumes of CUDA. Other
modules import Megatron's classes from here, so that its remarks on absent extensions are silenced
once and what is relied on can be read in one place.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import distributed

with warnings.catch_warnings():
    # Said at import: Apex and Transformer Engine are absent (neither is needed), and two
    # deprecations inside Megatron.
    warnings.filterwarnings("ignore", message=".*(Apex|Transformer Engine).*")
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*dynamic_context.*", category=DeprecationWarning)
    from megatron.core import parallel_state
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.transformer.module import MegatronModule
    from megatron.core.transformer.spec_utils import ModuleSpec, build_module
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
    from megatron.core.transformer.transformer_config import TransformerConfig
    from megatron.core.transformer.transformer_layer import BaseTransformerLayer

__all__ = [
    "BaseTransformerLayer",
    "GPTModel",
    "MegatronModule",
    "ModuleSpec",
    "TransformerBlockSubmodules",
    "TransformerConfig",
    "build_module",
    "get_gpt_layer_local_spec",
    "start",
]


@cache
def start() -> torch.device:
    """Make this process ready to build Megatron models and answer the device they live on.

    The first GPU if there is one, otherwise the CPU. Calling it again changes nothing.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    if not distributed.is_initialized():
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo", store=distributed.HashStore(), rank=0, world_size=1
        )
    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(create_gloo_process_groups=False)
    if not on_gpu:
        _adapt_to_cpu()
    return device


def _adapt_to_cpu() -> None:
    """Answer Megatron's questions about CUDA for a CPU, and speed up float32 products."""
    # Megatron's rotary embedding moves its frequencies to the current CUDA device.
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment, return-value]
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    if not _products_are_exact():
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"


def _products_are_exact() -> bool:
    """Whether float32 matrix products keep all of their 24 bits.

    Permission to round float32 operands to bfloat16 is what makes torch hand float32 products to
    oneDNN, which multiplies small matrices at up to twice the speed of MKL on some processors. Only
    processors with bfloat16 tiles make use of the permission; there it is withdrawn.
    """
    one_and_a_bit = 1 + 2.0**-12
    for num_rows, num_inner, num_columns in ((128, 32, 96), (96, 128, 32), (512, 256, 1024)):
        left = torch.full((2, num_rows, num_inner), one_and_a_bit)
        right = torch.ones(2, num_inner, num_columns)
        exact = bool((left @ right == num_inner * one_and_a_bit).all())
        if not (exact and bool((right.mT @ left.mT == num_inner * one_and_a_bit).all())):
            return False
    return True
