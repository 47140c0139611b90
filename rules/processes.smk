"""How the processes that a profile gives a training share it: refused here if they cannot."""

import os
import sys
from pathlib import Path

from knowcap.errors import UserError
from knowcap.config.parallelism import world_size_of
from knowcap.planning.parallelism import choose_parallel_dims

# What a profile can give a training, by the option that tells it, and what it is if not given. The rule
# names only what Slurm must be told: Snakemake reckons each resource of a rule anew for each job.
OPTIONS = {
    "nodes": ("--nodes", 1),
    "processes": ("--processes", 1),
    "gpu": ("--gpus", 0),
    "gpu_slots": ("--gpu-slots", 1),
    "tensor_parallel": ("--tensor-parallel", 0),
    "pipeline_parallel": ("--pipeline-parallel", 0),
    "expert_parallel": ("--expert-parallel", 0),
}


def given_by_profile(wildcards, resources):
    """Processes, what they share and how long they have, as options."""
    given = [
        word
        for name, (option, _) in OPTIONS.items()
        if name in resources.keys()
        for word in (option, resources[name])
    ]
    return [*given, *time_budget(resources)]


def refuse_layouts(rule):
    """Stop in one line, before anything is queued, if a model does not divide as asked.

    Numbers that a profile reckons anew for each job are left to the job.
    """
    asked = {name: default for name, (_, default) in OPTIONS.items()}
    asked |= {name: getattr(value, "raw", value) for name, value in rule.resources.items()}
    if not all(isinstance(asked[name], int) for name in OPTIONS):
        return
    sizes = {name: asked[f"{name}_parallel"] for name in ("tensor", "pipeline", "expert")}
    given = {name: size for name, size in sizes.items() if size}
    try:
        sharing = world_size_of(asked["nodes"], asked["processes"], asked["gpu"])
        for name, run in RUNS.items():
            if not Path(f"{RUN}/DONE".format(run=name)).exists():
                choose_parallel_dims(run, 1, sharing.total, sharing.num_processes, given)
    except UserError as error:
        print(f"train: {error}", file=sys.stderr, flush=True)
        os._exit(2)
