"""Devices and process groups: the only global state, and the only door to Megatron-core.

Megatron-core insists on process groups and, in places, on a GPU. :func:`start` makes a process a
world of its own, and on a machine without a GPU adapts what Megatron assumes of CUDA. Other
modules import Megatron's classes from here, so that its remarks on absent extensions are silenced
once and what is relied on can be read in one place.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import distributed
from torch.distributed import HashStore  # type: ignore[attr-defined]


@contextmanager
def without_compiler() -> Iterator[None]:
    """Leave functions as they are that a library would give to torch.compile at import.

    Of Megatron's and modelopt's fused paths none is used here, and the compiler that they would
    call takes two seconds to import.
    """
    compiler = torch.compile
    torch.compile = lambda function=None, **_: function or (lambda given: given)  # type: ignore
    try:
        yield
    finally:
        torch.compile = compiler


with without_compiler(), warnings.catch_warnings():
    # Said at import: Apex and Transformer Engine are absent (neither is needed), and two
    # deprecations inside Megatron.
    warnings.filterwarnings("ignore", message=".*(Apex|Transformer Engine).*")
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*dynamic_context.*", category=DeprecationWarning)
    warnings.filterwarnings(
        "ignore", message="(?s).*module is deprecated.*", category=DeprecationWarning
    )
    from megatron.core import parallel_state
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.transformer.identity_op import IdentityFuncOp, IdentityOp
    from megatron.core.transformer.module import MegatronModule
    from megatron.core.transformer.moe import moe_utils
    from megatron.core.transformer.spec_utils import ModuleSpec
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
    from megatron.core.transformer.transformer_config import TransformerConfig
    from megatron.core.transformer.transformer_layer import BaseTransformerLayer

__all__ = [
    "BaseTransformerLayer",
    "GPTModel",
    "IdentityFuncOp",
    "IdentityOp",
    "MegatronModule",
    "ModuleSpec",
    "TransformerBlockSubmodules",
    "TransformerConfig",
    "get_gpt_layer_local_spec",
    "start",
    "without_compiler",
]


if not moe_utils.HAVE_TE:
    # Megatron's router asks for it by name even so, and takes None for its absence.
    moe_utils.te_general_gemm = None


@cache
def start() -> torch.device:
    """Make this process ready to build Megatron models and answer the device they live on.

    The first GPU if there is one, otherwise the CPU. Calling it again changes nothing.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    if not distributed.is_initialized():
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo", store=HashStore(), rank=0, world_size=1
        )
    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(create_gloo_process_groups=False)
    if not on_gpu:
        _adapt_to_cpu()
    return device


def _adapt_to_cpu() -> None:
    """Answer Megatron's questions about CUDA for a CPU."""
    # Megatron's rotary embedding moves its frequencies to the current CUDA device.
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment, return-value]
