"""Imports of Megatron-core for several processes, and an emulation of CUDA on a CPU.

These imports take seconds, so they are apart from :mod:`knowcap.model.megatron_core`. Megatron's
schedules, distributed optimizer and checkpoints require CUDA; on a CPU, :func:`cuda_emulation`
redirects their tensors, so that tests run the same code as GPUs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from knowcap.model.library_imports import without_compiler, without_triton_kernels

with without_compiler(), without_triton_kernels(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # as in knowcap.model.megatron_core
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory
    from megatron.core.dist_checkpointing.utils import add_prefix_for_sharding
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
    from megatron.core.distributed.finalize_model_grads import finalize_model_grads
    from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler
    from megatron.core.transformer.moe.router import TopKRouter

__all__ = [
    "DistributedDataParallel",
    "DistributedDataParallelConfig",
    "MegatronOptimizer",
    "MoEAuxLossAutoScaler",
    "OptimizerConfig",
    "ShardedTensor",
    "ShardedTensorFactory",
    "TopKRouter",
    "add_prefix_for_sharding",
    "cuda_emulation",
    "dist_checkpointing",
    "filter_library_warnings",
    "finalize_model_grads",
    "get_forward_backward_func",
    "get_megatron_optimizer",
]


def filter_library_warnings() -> None:
    """Ignore warnings and logs of torch and Megatron about their own and each other's code."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    warnings.filterwarnings("ignore", category=FutureWarning, module="megatron")
    warnings.filterwarnings("ignore", message=".*we are deprecating ShardedTensor.*")
    warnings.filterwarnings("ignore", message=".*grad attribute of a Tensor that is not a leaf.*")
    warnings.filterwarnings("ignore", message=".*CUDA_DEVICE_MAX_CONNECTIONS.*")
    warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")
    warnings.filterwarnings("ignore", message=".*argument order of load.*")
    warnings.filterwarnings("ignore", message=".*is experimental and still under active.*")
    for name in ("distributed.distributed_data_parallel", "dist_checkpointing.strategies.torch"):
        logging.getLogger(f"megatron.core.{name}").setLevel(logging.ERROR)


class CudaEmulation(TorchFunctionMode):
    """Creates tensors on the CPU where `device="cuda"` is given, and reports CUDA tensor types."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a torch function with the CPU in place of a GPU."""
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        if func is Tensor.cuda:
            return args[0]
        result = func(*args, **kwargs)
        if func is Tensor.type and len(args) == 1:
            return result.replace("torch.", "torch.cuda.")
        return result


def cuda_emulation() -> AbstractContextManager[Any]:
    """Return a context in which Megatron's CUDA code runs on the CPU; no effect with a GPU."""
    return nullcontext() if torch.cuda.is_available() else CudaEmulation()
