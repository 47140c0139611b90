"""The moments that Megatron's distributed optimizer keeps, parameter by parameter.

Copies of a model share them out: each process has a stretch of what is, end to end, every parameter
of its part of the model. Here they are put together in the shape of the parameters, as they are
checkpointed, and taken apart. (Megatron's own way to do so, `fully_reshardable`, mixes parameters
up where a pipeline has an embedding at both of its ends.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from knowcap.engines.megatron.megatron_core import MegatronOptimizer

KINDS = ("exp_avg", "exp_avg_sq")
"""First and second moments."""


@torch.no_grad()
def gather(optimizer: MegatronOptimizer) -> dict[nn.Parameter, dict[str, Tensor]]:
    """Put the moments of each parameter of this process together, from all copies of the model."""
    found = {}
    for part, parameter in _parameters(optimizer):
        whole = {kind: torch.zeros_like(parameter) for kind in KINDS}
        own = _own(part, parameter)
        for kind, value in whole.items():
            if own is not None:
                value.view(-1)[own] = _state(part, parameter)[kind]
            distributed.all_reduce(value, group=part.data_parallel_group)
        found[parameter] = {kind: value.cpu() for kind, value in whole.items()}
    return found


@torch.no_grad()
def scatter(
    optimizer: MegatronOptimizer, whole: Mapping[nn.Parameter, Mapping[str, Tensor]], iteration: int
) -> None:
    """Restore this process's stretch of what :func:`gather` gave.

    Parameters
    ----------
    optimizer
        Of any number of copies of the model.
    whole
        Moments of each parameter of this process.
    iteration
        Steps that were made.
    """
    for part in optimizer.chained_optimizers:
        part.init_state_fn(part.optimizer)
        for group in part.optimizer.param_groups:
            group["step"] = iteration  # as fused implementations count
    for part, parameter in _parameters(optimizer):
        own = _own(part, parameter)
        if own is None:
            continue
        state = _state(part, parameter)
        for kind in KINDS:
            state[kind].copy_(whole[parameter][kind].view(-1)[own])
        if isinstance(part.optimizer, torch.optim.AdamW):
            state["step"] = torch.tensor(float(iteration))


def _parameters(optimizer: MegatronOptimizer) -> Iterator[tuple[Any, nn.Parameter]]:
    """Each parameter of this process and the optimiser it belongs to, in one order everywhere."""
    for part in optimizer.chained_optimizers:
        for buffer in part.buffers:
            for parameter in buffer.param_index_map:
                yield part, parameter


def _own(part: Any, parameter: nn.Parameter) -> slice | None:
    """Which stretch of a parameter this process keeps the moments of."""
    if parameter not in part.model_param_gbuf_map:
        return None
    stretch = part._get_model_param_range_map(parameter)["param"]
    return slice(stretch.start, stretch.end)


def _state(part: Any, parameter: nn.Parameter) -> dict[str, Tensor]:
    """What torch's or a fused optimiser keeps of a stretch."""
    group, place = part.model_param_group_index_map[parameter]
    state: dict[str, Tensor] = part.optimizer.state[
        part.optimizer.param_groups[group]["params"][place]
    ]
    return state
