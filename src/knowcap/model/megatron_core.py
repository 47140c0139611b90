"""Imports of Megatron-core, process groups and device: the only module with global state.

Megatron-core requires process groups and, in places, a GPU. :func:`init_process_groups` creates the
groups and, on a machine without a GPU, adapts what Megatron assumes of CUDA. Other modules import
Megatron's classes from here, so that all its warnings about missing extensions are silenced in one
place and the parts in use can be read there. The parts that only several processes use are in
:mod:`knowcap.engines.megatron.megatron_distributed`, because they take seconds to import.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cache

import torch
from torch import distributed
from torch.distributed import HashStore  # type: ignore[attr-defined]

from knowcap.config.parallelism import ParallelDims
from knowcap.model.library_imports import without_compiler, without_triton_kernels

with without_compiler(), without_triton_kernels(), warnings.catch_warnings():
    # Apex, Transformer Engine and absl are absent and not needed; Megatron uses deprecated APIs.
    warnings.filterwarnings("ignore", message=".*(Apex|Transformer Engine|absl.logging).*")
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*dynamic_context.*", category=DeprecationWarning)
    warnings.filterwarnings(
        "ignore", message="(?s).*module is deprecated.*", category=DeprecationWarning
    )
    from megatron.core import parallel_state
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.core.tensor_parallel import random as megatron_random
    from megatron.core.transformer.identity_op import IdentityFuncOp, IdentityOp
    from megatron.core.transformer.module import MegatronModule
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
    "init_process_groups",
    "parallel_state",
    "single_process_groups",
]

COLLECTIVE_TIMEOUT = timedelta(days=1)
"""Timeout of collective operations. It is long, because rank 0 may wait for the lock of a job that
trains the same run. torchrun ends the processes when one of them dies."""


@cache
def init_process_groups(parallel_dims: ParallelDims | None = None) -> torch.device:
    """Initialize torch's and Megatron's process groups; return the device of this process.

    The device is the first GPU, or this rank's GPU under torchrun, or the CPU if there is no GPU.
    Later calls have no effect.

    Parameters
    ----------
    parallel_dims
        Parallel sizes of the processes that torchrun started; None is a single process.
    """
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        _replace_cuda_calls()
    elif parallel_dims is not None:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    backend = "nccl" if on_gpu else "gloo"
    if not distributed.is_initialized():
        if parallel_dims is None or parallel_dims.world_size == 1:
            distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
        else:
            distributed.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    if not parallel_state.model_parallel_is_initialized():
        sizes = parallel_dims or ParallelDims()
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=sizes.tensor,
            pipeline_model_parallel_size=sizes.pipeline,
            expert_model_parallel_size=sizes.expert,
            expert_tensor_parallel_size=1,
            create_gloo_process_groups=False,
        )
        # Megatron's tracker needs CUDA random states; without dropout nothing is drawn.
        megatron_random._CUDA_RNG_STATE_TRACKER = _NoRngTracker()
        megatron_random._CUDA_RNG_STATE_TRACKER_INITIALIZED = True
    # Every GPTModel logs that it will be replaced by a model of mixed kinds of layers.
    logging.getLogger(GPTModel.__module__).setLevel(logging.ERROR)
    return device


class _NoRngTracker:
    """Replaces Megatron's tracker of random states for dropout."""

    @staticmethod
    def fork(name: str = "") -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()


def single_process_groups() -> ProcessGroupCollection:
    """Process groups of size 1, for a model that is not parallel, under any parallel sizes."""
    groups = ProcessGroupCollection.use_mpu_process_groups()
    groups.tp = groups.pp = parallel_state.get_context_parallel_group()  # always of size 1
    return groups


def _replace_cuda_calls() -> None:
    """Make the CPU torch's current CUDA device, on which Megatron allocates tensors."""
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment, return-value]
    torch.cuda.synchronize = lambda device=None: None
    # Megatron waits on this stream for CUDA graphs, of which there are none.
    torch.cuda.current_stream = torch.cpu.current_stream  # type: ignore[assignment]
