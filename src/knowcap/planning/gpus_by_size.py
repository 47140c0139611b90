"""Number of GPUs, nodes and attempts of a training by its floating-point operations.

A profile describes its GPUs (:class:`GpuSettings`). None of this affects results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from knowcap.config import Run
from knowcap.errors import UserError, shown
from knowcap.planning.cost import expected_text_statistics, training_flops
from knowcap.planning.profile import time_budget_s

MIN_TOKENS_PER_GPU = 4096
"""Tokens of a step that a GPU must have at least. ASSUMED, not measured: with fewer, GPUs wait for
each other's gradients longer than they compute."""

SPARE_ATTEMPTS = 4
"""Attempts of a training that may fail for other reasons than its time limit."""


class GpuSettings(NamedTuple):
    """Resources of `train` in a profile that chooses GPUs by the size of a run."""

    tflops_per_gpu: int
    """Assumed speed of a GPU in 10^12 floating-point operations a second."""
    target_hours: int
    """Training time that is not exceeded as long as there are GPUs for it."""
    gpus_per_node: int
    max_gpus: int
    """Largest number of GPUs of a training, of all nodes together."""


def gpu_settings(resources: Mapping[str, Any]) -> GpuSettings | None:
    """Return the GPU settings among the resources of `train`; None if there are none.

    Raises
    ------
    UserError
        If some are missing, or one is not a positive integer.
    """
    given = {name: resources[name] for name in GpuSettings._fields if name in resources}
    if not given:
        return None
    errors = [f"train: {name}: missing" for name in GpuSettings._fields if name not in given]
    errors += [
        f"train: {name}: {shown(value)} is not allowed: an integer of at least 1 is required"
        for name, value in given.items()
        if not isinstance(value, int) or isinstance(value, bool) or value < 1
    ]
    if errors:
        raise UserError.of_lines(errors)
    return GpuSettings(**given)


def num_gpus(run: Run, settings: GpuSettings) -> int:
    """Return the GPUs of a training: the fewest with which it ends within the target.

    Notes
    -----
    The number is a power of two within a node, and of nodes beyond. Each GPU has at least
    :data:`MIN_TOKENS_PER_GPU` tokens of a step. The speed of several GPUs is ASSUMED to be their
    sum.
    """
    optimization = run.optimization
    largest = optimization.global_batch_size * optimization.seq_length // MIN_TOKENS_PER_GPU
    allowed = min(settings.max_gpus, max(1, largest))
    number = 1
    while gpu_seconds(run, settings) > number * settings.target_hours * 3600:
        doubled = 2 * number
        if number < settings.gpus_per_node < doubled:
            doubled = settings.gpus_per_node
        if doubled > allowed:
            break
        number = doubled
    return number


def gpu_seconds(run: Run, settings: GpuSettings) -> float:
    """Return the seconds that a training would take on one GPU."""
    flops = training_flops(run, expected_text_statistics(run.corpus))
    return flops / (settings.tflops_per_gpu * 1e12)


def max_attempts(run: Run, settings: GpuSettings, limit_minutes: int) -> int:
    """Return the attempts of a training: twice those that it needs, and some to spare."""
    budget_s = max(1, time_budget_s(limit_minutes))
    needed = math.ceil(gpu_seconds(run, settings) / (num_gpus(run, settings) * budget_s))
    return 2 * needed + SPARE_ATTEMPTS


def resources_by_size(run: Run, settings: GpuSettings) -> dict[str, int | str]:
    """Return the resources of a training that depend on its size.

    Returns
    -------
    dict
        `gpu`, `nodes`, `tasks` and `mpi`, as the rule `train` needs them (docs/parallel.md).
    """
    gpus = num_gpus(run, settings)
    nodes = math.ceil(gpus / settings.gpus_per_node)
    return {"gpu": gpus, "nodes": nodes, "tasks": nodes, "mpi": "srun" if nodes > 1 else ""}
