"""The engine of several processes: Megatron's layers, its schedules and its distributed optimizer.

Each replicate is a model of its own, laid out over all processes; replicates take turns within a
step. All begin with the weights that a stacked model would, and make its steps up to rounding:
what padding and experts do is counted over a step, not over a process.

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
from knowcap.engines.megatron.ddp_model import Replica
from knowcap.engines.megatron.megatron_core import add_prefix_for_sharding, as_on_gpu
from knowcap.engines.megatron.moe_router import routers
from knowcap.model.moe import Load, load_metrics
from knowcap.model.optimizer import learning_rate_scale


class MegatronEngine:
    """Replicates laid out over processes, all of which call each method.

    Parameters
    ----------
    run, vocab_size, train_iters, device
        See :func:`knowcap.engines.base.build_engine`.
    layout
        Of the processes.
    """

    def __init__(
        self,
        run: Run,
        vocab_size: int,
        train_iters: int,
        device: torch.device,
        layout: ParallelDims,
    ) -> None:
        self._run, self._vocab_size, self._train_iters = run, vocab_size, train_iters
        self._dtype = getattr(torch, run.optimization.dtype)
        self._device, self._layout = device, layout
        self._everyone = distributed.new_group(backend="gloo")
        with as_on_gpu():
            self._replicas = [
                Replica(run, vocab_size, seed, lr, layout, device)
                for seed, lr in run.replicates.pairs
            ]

    @property
    def num_bytes(self) -> int:
        """Of a checkpoint."""
        sizes = [math.prod(shape) for shape in self._replicas[0].shapes.values()]
        return 3 * 4 * int(sum(sizes)) * len(self._replicas)

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one step, one replicate after the other."""
        scale = learning_rate_scale(self._run.optimization, self._train_iters, iteration)
        is_half = self._dtype != torch.float32
        with as_on_gpu(), torch.autocast(self._device.type, self._dtype, enabled=is_half):
            steps = [
                replica.step(tokens_BS1, scale)
                for replica, tokens_BS1 in zip(self._replicas, tokens_RBS1.long(), strict=True)
            ]
        losses, norms = zip(*steps, strict=True)
        return Step(torch.stack(losses), torch.tensor(norms, device=self._device))

    def facts(self) -> dict[str, Any]:
        """Processes, and what they share."""
        layout = self._layout
        return {"name": "distributed", "num_processes": layout.world_size, **layout._asdict()}

    def metrics(self) -> dict[str, Any]:
        """How experts share the load, if there are any."""
        if not self._run.architecture.num_moe_experts:
            return {}
        mine = {
            (router.layer_number, number): [part.cpu() for part in router.load]
            for number, replica in enumerate(self._replicas)
            for router in routers(replica.model)
        }
        found: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(found, mine, group=self._everyone)
        loads = {place: load for theirs in found for place, load in theirs.items()}
        by_layer = []
        for layer in range(1, self._run.architecture.num_layers + 1):
            parts = [loads[layer, number] for number in range(len(self._replicas))]
            by_layer.append(Load(*(torch.cat(part) for part in zip(*parts, strict=True))))
        return load_metrics(by_layer)

    def state_dict(self) -> dict[str, Any]:
        """Megatron's sharded state dict of all replicates."""
        return self._state_dict(is_loading=False)

    def template(self) -> dict[str, Any]:
        """Sharded state dict to read a checkpoint into, for :meth:`load_state_dict`."""
        return self._state_dict(is_loading=True)

    def _state_dict(self, *, is_loading: bool) -> dict[str, Any]:
        state = {}
        with as_on_gpu():
            for number, replica in enumerate(self._replicas):
                state[f"replicate_{number}"] = replica.state_dict(is_loading=is_loading)
                add_prefix_for_sharding(state[f"replicate_{number}"], f"replicate_{number}.")
        return state

    def load_sharded(self, state: Mapping[str, Any], iteration: int) -> None:
        """Restore what was read into :meth:`template`, after so many steps."""
        with as_on_gpu():
            for number, replica in enumerate(self._replicas):
                replica.load_state_dict(state[f"replicate_{number}"], iteration)

    def load_state_dict(self, state: Mapping[str, Tensor], iteration: int = 0) -> None:
        """Restore what the engine of one process gave after so many steps, [R, P] each."""
        with as_on_gpu():
            for number, replica in enumerate(self._replicas):
                mine = {name: value[number] for name, value in state.items()}
                replica.load_whole(mine, iteration)

    def weights(self) -> dict[str, Tensor]:
        """Each named parameter, on the leader; nothing on the others."""
        found = [
            state_dict.gather(replica.model.sharded_state_dict(), replica.shapes, self._everyone)
            for replica in self._replicas
        ]
        return {name: torch.stack([weights[name] for weights in found]) for name in found[0]}
