"""The SIMD engine: training steps of small models in C, one replicate per lane.

`train_step.c` computes the same as :class:`knowcap.engines.stacked.StackedEngine`, up to rounding,
without the hundred library calls of its step. It trains small models, for which these calls take
longer than the arithmetic, and wider models whose matrix products are no slower here. In bfloat16,
operands of matrix products are rounded; everything else is float32.

Threads divide the groups of replicates, the windows of a group and its parameters.

Shapes: R replicates, B windows, S positions, P parameters, L layers, E experts.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.engines.base import Step
from knowcap.engines.simd.replica_buffers import ReplicaGroup
from knowcap.engines.simd.support import lanes_per_group
from knowcap.model.moe import rounded_loads
from knowcap.model.optimizer import learning_rate_scale
from knowcap.model.stacked_model import StackedModel

MIN_MULTIPLICATIONS_TO_SPLIT = 2**25
"""Least multiplications in a step whose windows threads divide; waking a thread takes 0.1 ms."""

MIN_PARAMS_TO_SPLIT = 2**18
"""Least number of parameters, of all replicates, that threads divide in the optimizer."""


class SimdEngine:
    """Trains each replicate in a SIMD lane; see :func:`knowcap.engines.simd.support.is_supported`.

    Parameters
    ----------
    model
        Model with the initial weights.
    run
        The run to train.
    train_iters
        Number of optimizer steps.
    """

    def __init__(self, model: StackedModel, run: Run, train_iters: int) -> None:
        self._settings = run.optimization
        self._train_iters = train_iters
        self._has_experts = run.architecture.num_moe_experts > 0
        self._lr_R = np.array([lr for _, lr in run.replicates.pairs], dtype=np.float32)
        named = dict(model.named_parameters())
        self._columns = {name: (p.storage_offset(), p.shape[1:]) for name, p in named.items()}
        num_threads = torch.get_num_threads()
        self._num_lanes = lanes_per_group(run, num_threads)
        num_batch_shards = self._count_batch_shards(run, model.flat.shape[1], num_threads)
        self._splits_params = num_threads > 1 and model.flat.numel() >= MIN_PARAMS_TO_SPLIT
        sizes = {
            "num_batch_shards": num_batch_shards,
            "num_param_shards": (
                math.ceil(num_threads / len(self._num_lanes)) if self._splits_params else 1
            ),
        }
        first, self._groups = 0, []
        for num_lanes in self._num_lanes:
            members = slice(first, first + num_lanes)
            self._groups.append(
                ReplicaGroup(model, run, self._columns, members, num_lanes=num_lanes, **sizes)
            )
            first += num_lanes
        self._batch_shards = [shard for group in self._groups for shard in group.batch_shards]
        self._param_shards = [shard for group in self._groups for shard in group.param_shards]
        self._pool = (
            ThreadPoolExecutor(num_threads, thread_name_prefix="simd")
            if num_threads > 1 and (self._splits_params or len(self._batch_shards) > 1)
            else None
        )

    def _count_batch_shards(self, run: Run, num_params: int, num_threads: int) -> int:
        """Return the number of shards into which the windows of each group are divided."""
        optimization = run.optimization
        num_tokens = optimization.global_batch_size * optimization.seq_length
        per_group = 3 * num_tokens * num_params * len(self._lr_R) // len(self._num_lanes)
        # the capacity of experts is counted over all windows
        if self._has_experts or per_group < MIN_MULTIPLICATIONS_TO_SPLIT:
            return 1
        return min(max(1, num_threads // len(self._num_lanes)), optimization.global_batch_size)

    @property
    def num_bytes(self) -> int:
        """Size of a checkpoint in bytes."""
        return 3 * sum(group.parameters.nbytes for group in self._groups)

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one optimizer step."""
        settings = self._settings
        lr_R = self._lr_R * learning_rate_scale(settings, self._train_iters, iteration)
        decay_R = 1 - settings.weight_decay * lr_R
        corrections = [
            ctypes.c_float(1 - beta ** (iteration + 1))
            for beta in (settings.adam_beta1, settings.adam_beta2)
        ]
        tokens = tokens_RBS1.to(torch.int32).numpy()
        for group in self._groups:
            group.set_rates(lr_R[group.members], decay_R[group.members])
        self._for_each(self._batch_shards, lambda shard: shard.compute_gradients(tokens))
        if self._splits_params:
            self._for_each(self._param_shards, lambda shard: shard.reduce_gradients())
            self._for_each(self._param_shards, lambda shard: shard.adamw_step(corrections))
        else:
            for shard in self._param_shards:
                shard.reduce_and_step(corrections)
        loss_R, norm_R = np.empty_like(lr_R), np.empty_like(lr_R)
        for group in self._groups:
            loss_R[group.members], norm_R[group.members] = group.results()
        return Step(torch.from_numpy(loss_R), torch.from_numpy(norm_R))

    def _for_each(self, items: list[Any], function: Callable[[Any], None]) -> None:
        """Call a function with each item, in the thread pool if there is one."""
        if self._pool is None:
            for item in items:
                function(item)
        else:
            list(self._pool.map(function, items))

    def facts(self) -> dict[str, Any]:
        """Return the number of lanes of each group, and of shards of its windows."""
        lanes = " + ".join(map(str, self._num_lanes))
        num_batch_shards = len(self._groups[0].batch_shards)
        return {"name": "simd", "num_lanes": lanes, "num_batch_shards": num_batch_shards}

    def metrics(self) -> dict[str, Any]:
        """Return the load of experts, if there are any."""
        if not self._has_experts:
            return {}
        loads_RLE = torch.cat([group.loads() for group in self._groups])
        return rounded_loads(loads_RLE[..., :-1], loads_RLE[..., -1])

    def state_dict(self) -> dict[str, Tensor]:
        """Return parameters and optimizer moments, [R, P] each."""
        return {
            name: torch.cat(
                [getattr(group, name).T[: group.num_replicates] for group in self._groups]
            )
            for name in ("parameters", "exp_avg", "exp_avg_sq")
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore parameters and optimizer moments."""
        for group in self._groups:
            for name, values_RP in state.items():
                getattr(group, name)[:, : group.num_replicates] = values_RP[group.members].T

    def weights(self) -> dict[str, Tensor]:
        """Return each named parameter, [R, ...]."""
        flat_RP = self.state_dict()["parameters"]
        return {
            name: flat_RP[:, first : first + math.prod(shape)].reshape(-1, *shape).clone()
            for name, (first, shape) in self._columns.items()
        }
