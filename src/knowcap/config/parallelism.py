"""How many processes train a run, and what they split between them.

These sizes come from a profile, not from a study file: they do not affect results.
"""

from __future__ import annotations

from typing import NamedTuple

from knowcap.errors import UserError


class WorldSize(NamedTuple):
    """Processes that share a training."""

    num_nodes: int
    num_processes: int
    """Of a node."""
    on_gpus: bool
    """Whether each has a GPU of its own; otherwise they take what they find."""

    @property
    def total(self) -> int:
        """All processes."""
        return self.num_nodes * self.num_processes


def world_size_of(num_nodes: int, num_processes: int, num_gpus: int) -> WorldSize:
    """Who trains, from what a profile gives.

    Parameters
    ----------
    num_nodes
        Machines.
    num_processes
        Of a machine, where there are no GPUs.
    num_gpus
        Of all machines together. Each has a process of its own.

    Raises
    ------
    UserError
        If GPUs cannot be shared out among nodes, or a number makes no sense.
    """
    given = {"nodes": num_nodes, "processes": num_processes}
    for name, number in given.items():
        if number < 1:
            raise UserError(f"--{name}: {number} is fewer than 1")
    if num_gpus % num_nodes:
        raise UserError(f"--gpus: {num_gpus} are not the same number on each of {num_nodes} nodes")
    if num_gpus and num_processes > 1:
        raise UserError(
            f"--processes: {num_processes} and --gpus: {num_gpus}; each GPU has a process of its "
            f"own, leave --processes out"
        )
    return WorldSize(num_nodes, num_gpus // num_nodes or num_processes, num_gpus > 0)


class ParallelDims(NamedTuple):
    """Processes by what they share."""

    tensor: int = 1
    """Processes that share each layer."""
    pipeline: int = 1
    """Groups of processes that share out the layers."""
    expert: int = 1
    """Processes that share out each layer's experts; they are among those of tensor and data."""
    data: int = 1
    """Copies of the model."""

    @property
    def world_size(self) -> int:
        """All processes."""
        return self.tensor * self.pipeline * self.data
