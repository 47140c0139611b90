"""Choice and check of the parallelism of a run's models; it does not affect results.

The processes of a training are divided into copies of the model, which share the windows of a step
(data parallelism). A copy is one process or several: each has a part of every layer's heads and
channels (tensor parallelism), a part of the layers (pipeline parallelism) or, across copies, a
part of each layer's experts (expert parallelism).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from knowcap.config import Run
from knowcap.config.parallelism import ParallelDims
from knowcap.errors import UserError
from knowcap.model.num_params import ffn_hidden_size

PARAMS_PER_PROCESS = 3 * 10**9
"""Parameters of a model that one GPU of 80 GB can train: weights, gradients and two moments take
16 bytes each, 48 GB in total, or less where copies share the moments."""


def choose_parallel_dims(
    run: Run, num_params: int, world_size: int, num_per_node: int, fixed_sizes: Mapping[str, int]
) -> ParallelDims:
    """Choose the parallelism of a run's models by their size.

    Parameters
    ----------
    run
        The run to train.
    num_params
        Parameters of one model.
    world_size
        Number of processes.
    num_per_node
        Processes of a machine. Tensor parallelism across machines is too slow.
    fixed_sizes
        Sizes of `tensor`, `pipeline` and `expert` that the user has set.

    Raises
    ------
    UserError
        If a size does not divide the dimension that it splits.

    Notes
    -----
    A model is split among as few processes as can hold it, which minimizes communication: first
    by experts, then by tensors within a machine, then by layers. The rest are copies.
    """
    architecture = run.architecture
    for name, size in fixed_sizes.items():
        if size < 1:
            raise UserError(f"--{name}-parallel: {size} is not allowed, at least 1 is needed")
    expert, tensor, pipeline = (fixed_sizes.get(name) for name in ("expert", "tensor", "pipeline"))
    shard_params = num_params
    if expert is None:
        max_size = math.gcd(world_size, architecture.num_moe_experts or 1)
        expert = _smallest_sufficient(shard_params, max_size)
    shard_params //= expert
    if tensor is None:
        groups = math.gcd(architecture.num_kv_heads, architecture.num_attention_heads)
        max_size = math.gcd(groups, math.gcd(world_size, num_per_node))
        tensor = _smallest_sufficient(shard_params, max_size)
    shard_params //= tensor
    if pipeline is None:
        max_size = math.gcd(world_size // math.gcd(world_size, tensor), architecture.num_layers)
        pipeline = _smallest_sufficient(shard_params, max_size)
    if world_size % (tensor * pipeline):
        raise UserError(
            f"--tensor-parallel: {tensor} times --pipeline-parallel: {pipeline} does not divide "
            f"{world_size} processes"
        )
    parallel_dims = ParallelDims(tensor, pipeline, expert, world_size // (tensor * pipeline))
    check_parallel_dims(parallel_dims, run)
    return parallel_dims


def _smallest_sufficient(num_params: int, max_size: int) -> int:
    """Return the smallest divisor of `max_size` by which the parameters fit in one process."""
    divisors = (size for size in range(1, max_size + 1) if max_size % size == 0)
    sufficient = (size for size in divisors if num_params <= size * PARAMS_PER_PROCESS)
    return next(sufficient, max_size)


def check_parallel_dims(parallel_dims: ParallelDims, run: Run) -> None:
    """Raise a UserError if a parallel size does not divide a run's models.

    Raises
    ------
    UserError
        With the size, the dimension that it does not divide, and the allowed sizes.
    """
    architecture = run.architecture
    _check_divides("tensor", parallel_dims.tensor, architecture.num_attention_heads, "heads")
    _check_divides("tensor", parallel_dims.tensor, architecture.num_kv_heads, "KV heads")
    if architecture.mlp_weights and parallel_dims.tensor > 1:
        ffn_size = ffn_hidden_size(architecture)
        _check_divides("tensor", parallel_dims.tensor, ffn_size, "channels of an MLP")
    _check_divides("pipeline", parallel_dims.pipeline, architecture.num_layers, "layers")
    if parallel_dims.expert > 1 or architecture.num_moe_experts:
        _check_experts(parallel_dims, run)


def _check_experts(parallel_dims: ParallelDims, run: Run) -> None:
    architecture = run.architecture
    if not architecture.num_moe_experts:
        raise UserError(
            f"--expert-parallel: {parallel_dims.expert} is not allowed, the model has no experts; "
            f"leave the option out"
        )
    _check_divides("expert", parallel_dims.expert, architecture.num_moe_experts, "experts")
    num_sharing = parallel_dims.tensor * parallel_dims.data
    _check_divides("expert", parallel_dims.expert, num_sharing, "processes with the same layers")
    # Each process routes an equal part of the positions.
    seq_length = run.optimization.seq_length
    _check_divides("tensor", parallel_dims.tensor, seq_length, "positions of a window")


def _check_divides(kind: str, size: int, number: int, noun: str) -> None:
    if size < 1 or number % size:
        if number == 1:
            one = noun.removesuffix("s")
            raise UserError(f"--{kind}-parallel: {size} does not divide 1 {one}; only 1 is allowed")
        allowed = [str(n) for n in range(1, number + 1) if number % n == 0]
        raise UserError(
            f"--{kind}-parallel: {size} does not divide {number} {noun}; "
            f"allowed are {', '.join(allowed)}"
        )
