"""How a model is laid out over processes: no part of a run, as it moves no number.

A world of processes is divided into copies of the model, over which a step's windows are shared
(data parallelism). A copy is one process, or several: each has some of every layer's heads and
channels (tensor parallelism), some of the layers (pipeline parallelism) or, across copies, some
of each layer's experts (expert parallelism).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from knowcap.config import Run
from knowcap.config.parallelism import ParallelDims
from knowcap.errors import UserError
from knowcap.model.num_params import ffn_hidden_size

PARAMS_PER_PROCESS = 3 * 10**9
"""Parameters that one GPU of 80 GB trains without being crowded: weights, gradients and two
moments are 16 bytes each, 48 GB, and fewer where copies share the moments."""


def choose_parallel_dims(
    run: Run, num_params: int, world_size: int, num_per_node: int, asked: Mapping[str, int]
) -> ParallelDims:
    """Choose how a run's models are laid out; what is left open follows from their size.

    Parameters
    ----------
    run
        What is trained.
    num_params
        Of one model.
    world_size
        Processes.
    num_per_node
        Processes of a machine; more cannot share a layer at any speed.
    asked
        Sizes of `tensor`, `pipeline` and `expert` that are not left open.

    Raises
    ------
    UserError
        If a size does not divide what it shares out.

    Notes
    -----
    As few processes as can hold a model share it, since that costs the least communication:
    experts first, then tensors within a machine, then layers. The rest are copies.
    """
    architecture = run.architecture
    for name, size in asked.items():
        if size < 1:
            raise UserError(f"--{name}-parallel: {size} is fewer than 1")
    expert, tensor, pipeline = (asked.get(name) for name in ("expert", "tensor", "pipeline"))
    share = num_params
    if expert is None:
        expert = _smallest(share, math.gcd(world_size, architecture.num_moe_experts or 1))
    share //= expert
    if tensor is None:
        groups = math.gcd(architecture.num_kv_heads, architecture.num_attention_heads)
        tensor = _smallest(share, math.gcd(groups, math.gcd(world_size, num_per_node)))
    share //= tensor
    if pipeline is None:
        stages = math.gcd(world_size // math.gcd(world_size, tensor), architecture.num_layers)
        pipeline = _smallest(share, stages)
    if world_size % (tensor * pipeline):
        raise UserError(
            f"--tensor-parallel: {tensor} times --pipeline-parallel: {pipeline} does not divide "
            f"{world_size} processes"
        )
    layout = ParallelDims(tensor, pipeline, expert, world_size // (tensor * pipeline))
    check_parallel_dims(layout, run)
    return layout


def _smallest(num_params: int, most: int) -> int:
    """Find the smallest divisor of `most` with which a process can hold its share."""
    divisors = (number for number in range(1, most + 1) if most % number == 0)
    enough = (number for number in divisors if num_params <= number * PARAMS_PER_PROCESS)
    return next(enough, most)


def check_parallel_dims(layout: ParallelDims, run: Run) -> None:
    """Refuse a layout that does not divide a model.

    Raises
    ------
    UserError
        Naming the size, what it does not divide and what would do.
    """
    architecture = run.architecture
    _divide("tensor", layout.tensor, architecture.num_attention_heads, "heads")
    _divide("tensor", layout.tensor, architecture.num_kv_heads, "heads of keys and values")
    if architecture.mlp_weights and layout.tensor > 1:
        _divide("tensor", layout.tensor, ffn_hidden_size(architecture), "channels of an MLP")
    _divide("pipeline", layout.pipeline, architecture.num_layers, "layers")
    if layout.expert > 1 or architecture.num_moe_experts:
        _check_experts(layout, run)


def _check_experts(layout: ParallelDims, run: Run) -> None:
    architecture = run.architecture
    if not architecture.num_moe_experts:
        raise UserError(
            f"--expert-parallel: {layout.expert} processes for a model without experts; leave it "
            f"out"
        )
    _divide("expert", layout.expert, architecture.num_moe_experts, "experts")
    sharing = layout.tensor * layout.data
    _divide("expert", layout.expert, sharing, "processes that have the same layers")
    # Routers then see each a part of the positions.
    _divide("tensor", layout.tensor, run.optimization.seq_length, "positions of a window")


def _divide(kind: str, size: int, number: int, things: str) -> None:
    if size < 1 or number % size:
        allowed = [str(n) for n in range(1, number + 1) if number % n == 0]
        raise UserError(
            f"--{kind}-parallel: {size} does not divide {number} {things}; "
            f"allowed are {', '.join(allowed)}"
        )
