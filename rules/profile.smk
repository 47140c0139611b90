"""Profiles: cores, resources of trainings, and checks before the first job.

A profile sets how jobs run and does not affect results.
"""

import functools
import itertools
import math
import shutil

from knowcap.artifacts.shared_folder import check_folders, share_with_group
from knowcap.artifacts.storage import check_writable
from knowcap.planning.gpus_by_size import gpu_settings, max_attempts, resources_by_size
from knowcap.planning.machine_limits import cpu_quota, memory_bytes
from knowcap.planning.memory import training_memory_bytes
from knowcap.planning.profile import check_parallel_sizes, train_options
from knowcap.planning.slurm_limits import Request, check_requests, check_slurm, partitions
from knowcap.planning.training_threads import training_threads


def limit_cores():
    """Use no more cores than the CPU quota of a container, which Snakemake does not read."""
    quota, cores = cpu_quota(), workflow.resource_settings.cores
    if quota is not None and cores is not None and cores > quota and not is_module():
        print(
            f"cores: {quota} instead of {cores}, the CPU quota of this container", file=sys.stderr
        )
        workflow.resource_settings.cores = quota
        workflow.global_resources["_cores"] = quota


def limit_memory():
    """Bound the memory of concurrent trainings on this machine, unless `--resources mem_mb` does.

    The executor is known when Snakemake plans the jobs, so input functions call this.
    """
    limit = memory_bytes()
    if not is_local() or limit is None or "mem_mb" in workflow.global_resources:
        return
    workflow.global_resources["mem_mb"] = limit * USABLE_PERCENT // 100 // 10**6


# Share of the memory for trainings; the rest is for Snakemake and the system.
USABLE_PERCENT = 90


def is_local():
    """Whether jobs run on this machine, as its own workflow."""
    return workflow.is_main_process and workflow.local_exec and not is_module()


def memory_by_size(wildcards):
    """Estimated megabytes of a training on this machine; elsewhere the profile sets them."""
    if not is_local():
        return None
    gpu = PROFILE.get("gpu", 0)
    return math.ceil(training_memory_bytes(RUNS[wildcards.run], on_gpu=bool(gpu)) / 10**6)


@functools.cache
def threads_of_runs(num_cores):
    """CPU threads of every training of the study, finished or not, so that a restart changes none."""
    return training_threads(STUDY.runs(), num_cores)


def threads_by_size(wildcards):
    """CPU threads of a training on this machine; elsewhere, and with GPUs, the profile sets them."""
    cores = workflow.resource_settings.cores
    if not is_local() or cores is None or PROFILE.get("gpu") or shutil.which("nvidia-smi"):
        return 1
    return threads_of_runs(cores)[RUNS[wildcards.run]]


def training_options(wildcards, resources):
    """Command line options of a training for the resources that the profile sets."""
    options = train_options(dict(resources.items()))
    settings, limit = PROFILE.get("gpu_settings"), resources.get("runtime")
    if settings is None or limit is None:
        return options
    return [*options, "--max-attempts", max_attempts(RUNS[wildcards.run], settings, limit)]


def attempt_number(wildcards, attempt):
    """Number of the attempt of a job."""
    return attempt


def resource_by_size(name, default):
    """Resource function of a training: by the size of the run if the profile describes its GPUs."""

    def resource(wildcards):
        settings = PROFILE.get("gpu_settings")
        if settings is None:
            return default
        return resources_by_size(RUNS[wildcards.run], settings)[name]

    return resource


# A resource that is None is not set.
gpus_by_size = resource_by_size("gpu", None)
nodes_by_size = resource_by_size("nodes", 1)
tasks_by_size = resource_by_size("tasks", None)
mpi_by_size = resource_by_size("mpi", "")

# What the profile says about trainings; read_profile fills it after the rule `train` is defined.
PROFILE = {}


def read_profile(rules):
    """Read the profile's resources of trainings; stop with one line for each that cannot work."""
    resources = rules.train.rule.resources if rules.has("train") else None
    if resources is None:  # another workflow uses this one as a module, without this rule
        return
    raw = {name: getattr(value, "raw", value) for name, value in resources.items()}
    given = {name: value for name, value in raw.items() if value is not None}
    missing = [run for name, run in RUNS.items() if not Path(RUN_DONE.format(run=name)).exists()]
    try:
        settings = PROFILE["gpu_settings"] = gpu_settings(given)
        PROFILE["gpu"] = given.get("gpu", 0)
        for run in missing:
            by_size = resources_by_size(run, settings) if settings else {}
            check_parallel_sizes({**by_size, **given}, [run])
    except UserError as error:
        stop(error)


def files_to_write():
    """Outputs and logs of all jobs, and the lock of each training."""
    for job in workflow.dag.needrun_jobs():
        yield from (Path(path) for path in itertools.chain(job.output, job.log))
        if "run" in job.wildcards_dict:
            yield Path(SCRATCH.format(run=job.wildcards.run), "lock")


def check_submissions():
    """Raise a UserError if Slurm cannot run a job, also in a later attempt."""
    check_slurm()
    last = 1 + workflow.execution_settings.retries
    check_requests(
        (
            Request(
                job.rule.name,
                attempt,
                job.rule.expand_resources(job.wildcards_dict, job.input, attempt),
            )
            for job in workflow.dag.needrun_jobs()
            if not job.is_local
            for attempt in sorted({1, min(2, last), min(3, last), last})
        ),
        partitions(),
    )


onstart:
    try:
        check_writable(Path(RESULTS))
        check_folders(files_to_write(), Path(RESULTS))
        if workflow.executor_plugin.name == "slurm":
            check_submissions()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"{RESULTS}: cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(2)


share_with_group(Path(RESULTS))
limit_cores()
