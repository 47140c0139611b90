"""What several processes need of Megatron-core: the other half of :mod:`knowcap.model.megatron_core`.

Megatron's schedules, its distributed optimizer and its checkpoints insist on a GPU.
:func:`as_on_gpu` gives them a CPU for it, so that a CPU does, and tests, exactly what GPUs do.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from knowcap.model import megatron_core

with megatron_core.without_compiler(), warnings.catch_warnings():
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
    "as_on_gpu",
    "dist_checkpointing",
    "finalize_model_grads",
    "get_forward_backward_func",
    "get_megatron_optimizer",
    "quieten",
]


def quieten() -> None:
    """Leave out what torch and Megatron have to say of one another."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    warnings.filterwarnings("ignore", category=FutureWarning, module="megatron")
    warnings.filterwarnings("ignore", message=".*we are deprecating ShardedTensor.*")
    warnings.filterwarnings("ignore", message=".*grad attribute of a Tensor that is not a leaf.*")
    warnings.filterwarnings("ignore", message=".*CUDA_DEVICE_MAX_CONNECTIONS.*")


class OnCPU(TorchFunctionMode):
    """Within this block what Megatron asks of a GPU is done by the CPU.

    Its schedules, its optimiser and its checkpoints make tensors `device="cuda"`, and the latter
    two insist on types of CUDA's. Nothing else of them needs a GPU, so that a CPU can do, and test,
    exactly what GPUs do.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call torch's function with the CPU in the place of a GPU."""
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        if func is Tensor.cuda:
            return args[0]
        answer = func(*args, **kwargs)
        if func is Tensor.type and len(args) == 1:
            return answer.replace("torch.", "torch.cuda.")
        return answer


def as_on_gpu() -> AbstractContextManager[Any]:
    """Make a block run on the CPU that Megatron has written for GPUs; nothing on a GPU."""
    return nullcontext() if torch.cuda.is_available() else OnCPU()
