"""Devices and process groups: the only global state, and the only door to Megatron-core.

Megatron-core insists on process groups and, in places, on a GPU. :func:`start` makes a process a
world of its own, and on a machine without a GPU adapts what Megatron assumes of CUDA. Other
modules import Megatron's classes from here, so that its remarks on absent extensions are silenced
once and what is relied on can be read in one place. What only several processes need is in
:mod:`knowcap.engines.megatron.megatron_distributed`, as it takes seconds to import.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import cache

import torch
from torch import distributed
from torch.distributed import HashStore  # type: ignore[attr-defined]

from knowcap.config.parallelism import ParallelDims


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


@contextmanager
def without_package(name: str) -> Iterator[None]:
    """Let a package seem not to be installed, for a library that makes use of it where it is.

    Its modules can be imported afterwards. One that was imported before is not hidden.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # as Python itself says that there is none
    try:
        yield
    finally:
        del sys.modules[name]


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
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.core.tensor_parallel import random as megatron_random
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
    "own_groups",
    "parallel_state",
    "start",
    "without_compiler",
    "without_package",
]

TIMEOUT = timedelta(days=1)
"""How long a process waits for another, which may itself wait for a job that trains the same run.
One whose peer is dead does not wait: torchrun ends it."""


if not moe_utils.HAVE_TE:
    # Megatron's router asks for it by name even so, and takes None for its absence.
    moe_utils.te_general_gemm = None


@cache
def start(layout: ParallelDims | None = None) -> torch.device:
    """Make this process ready to build Megatron models and answer the device they live on.

    The first GPU if there is one, otherwise the CPU. Calling it again changes nothing.

    Parameters
    ----------
    layout
        Of the processes that torchrun started, of which this is one; None makes the process a
        world of its own.
    """
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        _adapt_to_cpu()
    elif layout is not None:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    backend = "nccl" if on_gpu else "gloo"
    if not distributed.is_initialized():
        if layout is None or layout.world_size == 1:
            distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
        else:
            distributed.init_process_group(backend, timeout=TIMEOUT)
    if not parallel_state.model_parallel_is_initialized():
        sizes = layout or ParallelDims()
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=sizes.tensor,
            pipeline_model_parallel_size=sizes.pipeline,
            expert_model_parallel_size=sizes.expert,
            expert_tensor_parallel_size=1,
            create_gloo_process_groups=False,
        )
        # Parts of a layer would draw from a state each, and nothing is ever dropped out.
        megatron_random._CUDA_RNG_STATE_TRACKER = _NothingIsDrawn()
        megatron_random._CUDA_RNG_STATE_TRACKER_INITIALIZED = True
    return device


class _NothingIsDrawn:
    """In place of the random states of Megatron's dropout."""

    @staticmethod
    def fork(name: str = "") -> AbstractContextManager[None]:
        """Leave random numbers as they are."""
        return nullcontext()


def own_groups() -> ProcessGroupCollection:
    """Process groups for a model that this process has to itself, whatever the layout."""
    groups = ProcessGroupCollection.use_mpu_process_groups()
    groups.tp = groups.pp = parallel_state.get_context_parallel_group()  # never of several
    return groups


def _adapt_to_cpu() -> None:
    """Answer Megatron's questions about CUDA for a CPU."""
    # Megatron makes tensors on the current CUDA device.
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment, return-value]
    torch.cuda.synchronize = lambda device=None: None
