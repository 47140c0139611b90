"""Resources of a workflow profile as training options: processes, parallel sizes, time limit.

The rules pass resources of a profile to `knowcap train` as options, and check them before any job
is submitted. None of them affects results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from knowcap.config import Run
from knowcap.config.parallelism import world_size_of
from knowcap.errors import UserError
from knowcap.planning.choose_parallelism import choose_parallel_dims

OPTIONS: Mapping[str, tuple[str, int]] = {
    "nodes": ("--nodes", 1),
    "processes": ("--processes", 1),
    "gpu": ("--gpus", 0),
    "gpu_slots": ("--gpu-slots", 1),
    "tensor_parallel": ("--tensor-parallel", 0),
    "pipeline_parallel": ("--pipeline-parallel", 0),
    "expert_parallel": ("--expert-parallel", 0),
}
"""Options of `knowcap train` and their defaults, by the name of the resource that sets them."""


def train_options(resources: Mapping[str, Any]) -> list[str]:
    """Return the resources of a training job as options of `knowcap train`.

    Parameters
    ----------
    resources
        Resources of the job; `runtime`, if given, is its time limit in minutes.
    """
    given = [
        (option, str(resources[name])) for name, (option, _) in OPTIONS.items() if name in resources
    ]
    if resources.get("runtime") is not None:
        given.append(("--time-budget-s", str(time_budget_s(resources["runtime"]))))
    return [word for option in given for word in option]


def time_budget_s(limit_minutes: int) -> int:
    """Return the seconds of training that fit in a time limit.

    A tenth of the limit, from one to five minutes, is kept for starting and for saving. If nothing
    is left, a training makes one step.
    """
    return max(0, 60 * limit_minutes - min(max(6 * limit_minutes, 60), 300))


def check_parallel_sizes(resources: Mapping[str, Any], runs: Iterable[Run]) -> None:
    """Raise a UserError if processes cannot share the models of the runs.

    Resources that a profile computes for each job (strings, functions) are left to the job.
    """
    sizes = {name: resources.get(name, default) for name, (_, default) in OPTIONS.items()}
    if not all(isinstance(size, int) for size in sizes.values()):
        return
    dims = {name: sizes[f"{name}_parallel"] for name in ("tensor", "pipeline", "expert")}
    given = {name: size for name, size in dims.items() if size}
    try:
        world = world_size_of(sizes["nodes"], sizes["processes"], sizes["gpu"])
        for run in runs:
            choose_parallel_dims(run, 1, world.total, world.num_processes, given)
    except UserError as error:
        raise UserError(f"train: {error}") from None
