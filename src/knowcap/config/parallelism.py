"""Number of processes of a training, and the sizes of its dimensions of parallelism.

These sizes come from a profile, not from a study file, as they do not affect results.
"""

from __future__ import annotations

from typing import NamedTuple

from knowcap.errors import UserError


class WorldSize(NamedTuple):
    """Number of processes that train a run together."""

    num_nodes: int
    num_processes: int
    """Processes of a node."""
    on_gpus: bool
    """Whether each process has a GPU of its own; otherwise the device is detected."""

    @property
    def total(self) -> int:
        """Processes of all nodes."""
        return self.num_nodes * self.num_processes


def world_size_of(num_nodes: int, num_processes: int, num_gpus: int) -> WorldSize:
    """Return the processes that a profile's options start.

    Parameters
    ----------
    num_nodes
        Number of machines.
    num_processes
        Processes of a machine without GPUs.
    num_gpus
        GPUs of all machines together; each has one process.

    Raises
    ------
    UserError
        If a number is below 1, the GPUs cannot be divided evenly among the nodes, or both GPUs
        and processes are given.
    """
    for name, number in {"nodes": num_nodes, "processes": num_processes}.items():
        if number < 1:
            raise UserError(f"--{name}: {number} is not allowed, at least 1 is needed")
    if num_gpus % num_nodes:
        raise UserError(f"--gpus: {num_gpus} cannot be divided evenly among {num_nodes} nodes")
    if num_gpus and num_processes > 1:
        raise UserError(
            f"--processes: {num_processes} cannot be combined with --gpus: {num_gpus}; each GPU "
            f"has one process, leave --processes out"
        )
    return WorldSize(num_nodes, num_gpus // num_nodes or num_processes, num_gpus > 0)


class ParallelDims(NamedTuple):
    """Sizes of Megatron's dimensions of parallelism."""

    tensor: int = 1
    """Processes that split each layer."""
    pipeline: int = 1
    """Pipeline stages, each with a part of the layers."""
    expert: int = 1
    """Processes that split each layer's experts, by tensor and data parallel ranks together."""
    data: int = 1
    """Copies of the model."""

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.tensor * self.pipeline * self.data
