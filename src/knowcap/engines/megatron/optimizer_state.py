"""Moments of Megatron's distributed optimizer, gathered from and scattered to model copies.

The optimizer shards a flat buffer of all parameters over the copies of a model. Checkpoints store
moments in the shapes of the parameters. Megatron's own conversion, `fully_reshardable`, mixes up
parameters if a pipeline has an embedding at both ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from knowcap.engines.megatron.megatron_distributed import MegatronOptimizer

KINDS = ("exp_avg", "exp_avg_sq")
"""Names of the first and second moment."""


@torch.no_grad()
def gather_moments(optimizer: MegatronOptimizer) -> dict[nn.Parameter, dict[str, Tensor]]:
    """Return the moments of this process's parameters, gathered from all model copies."""
    gathered = {}
    for part, parameter in _parameters(optimizer):
        full = {kind: torch.zeros_like(parameter) for kind in KINDS}
        local = _local_range(part, parameter)
        for kind, value in full.items():
            if local is not None:
                value.view(-1)[local] = _state(part, parameter)[kind]
            distributed.all_reduce(value, group=part.data_parallel_group)
        gathered[parameter] = {kind: value.cpu() for kind, value in full.items()}
    return gathered


@torch.no_grad()
def scatter_moments(
    optimizer: MegatronOptimizer,
    moments: Mapping[nn.Parameter, Mapping[str, Tensor]],
    iteration: int,
) -> None:
    """Restore this process's shard of moments returned by :func:`gather_moments`.

    Parameters
    ----------
    optimizer
        Optimizer of any number of model copies.
    moments
        Moments of each parameter of this process.
    iteration
        Number of steps made.
    """
    for part in optimizer.chained_optimizers:
        part.init_state_fn(part.optimizer)
        for group in part.optimizer.param_groups:
            group["step"] = iteration  # step count of fused implementations
    for part, parameter in _parameters(optimizer):
        local = _local_range(part, parameter)
        if local is None:
            continue
        state = _state(part, parameter)
        for kind in KINDS:
            state[kind].copy_(moments[parameter][kind].view(-1)[local])
        if isinstance(part.optimizer, torch.optim.AdamW):
            state["step"] = torch.tensor(float(iteration))


def _parameters(optimizer: MegatronOptimizer) -> Iterator[tuple[Any, nn.Parameter]]:
    """Yield each parameter of this process with its optimizer, in an order equal on all ranks."""
    for part in optimizer.chained_optimizers:
        for buffer in part.buffers:
            for parameter in buffer.param_index_map:
                yield part, parameter


def _local_range(part: Any, parameter: nn.Parameter) -> slice | None:
    """Return the range of a parameter whose moments this process stores, or None."""
    if parameter not in part.model_param_gbuf_map:
        return None
    bounds = part._get_model_param_range_map(parameter)["param"]
    return slice(bounds.start, bounds.end)


def _state(part: Any, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Return the optimizer's state of this process's range of a parameter."""
    group, index = part.model_param_group_index_map[parameter]
    state: dict[str, Tensor] = part.optimizer.state[
        part.optimizer.param_groups[group]["params"][index]
    ]
    return state
