"""The Megatron engine: parallel layers, pipeline schedules and the distributed optimizer.

Each replicate is a separate model on all processes; a step updates one replicate after the other.
Initial weights and steps equal those of the stacked engine up to rounding: padding and the capacity
of experts are counted over a whole step, not per process.

Shapes: R replicates, B windows of a step, S positions of a window, P parameters of a replicate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed

from knowcap.config import Run
from knowcap.config.parallelism import ParallelDims
from knowcap.engines.base import Step
from knowcap.engines.megatron import state_dict
from knowcap.engines.megatron.ddp_model import DDPReplica
from knowcap.engines.megatron.megatron_distributed import add_prefix_for_sharding, cuda_emulation
from knowcap.engines.megatron.moe_router import find_routers
from knowcap.engines.megatron.support import check_supported
from knowcap.model.moe import Load, load_metrics
from knowcap.model.optimizer import learning_rate_scale


class MegatronEngine:
    """Trains each replicate on all processes; every process calls each method.

    Parameters
    ----------
    run, vocab_size, train_iters, device
        See :func:`knowcap.engines.select.build_engine`.
    parallel_dims
        Sizes of tensor, pipeline, expert and data parallelism.

    Raises
    ------
    UserError
        If several processes do not implement an option of the run.
    """

    def __init__(
        self,
        run: Run,
        vocab_size: int,
        train_iters: int,
        device: torch.device,
        parallel_dims: ParallelDims,
    ) -> None:
        check_supported(run)
        self._run, self._vocab_size, self._train_iters = run, vocab_size, train_iters
        self._dtype = getattr(torch, run.optimization.dtype)
        self._device, self._parallel_dims = device, parallel_dims
        self._gloo_group = distributed.new_group(backend="gloo")
        with cuda_emulation():
            self._replicas = [
                DDPReplica(run, vocab_size, seed, lr, parallel_dims, device)
                for seed, lr in run.replicates.pairs
            ]

    @property
    def num_bytes(self) -> int:
        """Size of a checkpoint in bytes."""
        sizes = [math.prod(shape) for shape in self._replicas[0].shapes.values()]
        return 3 * 4 * int(sum(sizes)) * len(self._replicas)

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one optimizer step, one replicate after the other."""
        scale = learning_rate_scale(self._run.optimization, self._train_iters, iteration)
        is_bf16 = self._dtype != torch.float32
        with cuda_emulation(), torch.autocast(self._device.type, self._dtype, enabled=is_bf16):
            steps = [
                replica.step(tokens_BS1, scale)
                for replica, tokens_BS1 in zip(self._replicas, tokens_RBS1.long(), strict=True)
            ]
        losses, norms = zip(*steps, strict=True)
        return Step(torch.stack(losses), torch.tensor(norms, device=self._device))

    def facts(self) -> dict[str, Any]:
        """Return the number of processes and the parallel dimensions."""
        dims = self._parallel_dims
        return {"name": "megatron", "num_processes": dims.world_size, **dims._asdict()}

    def metrics(self) -> dict[str, Any]:
        """Return the load of experts, if there are any."""
        if not self._run.architecture.num_moe_experts:
            return {}
        local = {
            (router.layer_number, number): [part.cpu() for part in router.load]
            for number, replica in enumerate(self._replicas)
            for router in find_routers(replica.model)
        }
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, local, group=self._gloo_group)
        loads = {key: load for of_rank in gathered for key, load in of_rank.items()}
        by_layer = []
        for layer in range(1, self._run.architecture.num_layers + 1):
            parts = [loads[layer, number] for number in range(len(self._replicas))]
            by_layer.append(Load(*(torch.cat(part) for part in zip(*parts, strict=True))))
        return load_metrics(by_layer)

    def state_dict(self) -> dict[str, Any]:
        """Return Megatron's sharded state dict of all replicates."""
        return self._state_dict(is_loading=False)

    def template(self) -> dict[str, Any]:
        """Return a sharded state dict to read a checkpoint into, for :meth:`load_sharded`."""
        return self._state_dict(is_loading=True)

    def _state_dict(self, *, is_loading: bool) -> dict[str, Any]:
        state = {}
        with cuda_emulation():
            for number, replica in enumerate(self._replicas):
                state[f"replicate_{number}"] = replica.state_dict(is_loading=is_loading)
                add_prefix_for_sharding(state[f"replicate_{number}"], f"replicate_{number}.")
        return state

    def load_sharded(self, state: Mapping[str, Any], iteration: int) -> None:
        """Restore a state that was read into :meth:`template`, saved after `iteration` steps."""
        with cuda_emulation():
            for number, replica in enumerate(self._replicas):
                replica.load_state_dict(state[f"replicate_{number}"], iteration)

    def load_state_dict(self, state: Mapping[str, Tensor], iteration: int = 0) -> None:
        """Restore a single-process engine's state after `iteration` steps, [R, P] each."""
        with cuda_emulation():
            for number, replica in enumerate(self._replicas):
                replica.load_full({name: value[number] for name, value in state.items()}, iteration)

    def weights(self) -> dict[str, Tensor]:
        """Return each named parameter on rank 0, nothing on other ranks."""
        gathered = [
            state_dict.gather_full(
                replica.model.sharded_state_dict(), replica.shapes, self._gloo_group
            )
            for replica in self._replicas
        ]
        return {name: torch.stack([weights[name] for weights in gathered]) for name in gathered[0]}
