"""Start of a training's processes: environment variables, torchrun and srun.

The same command starts one process, one process for each GPU of a machine, or several nodes. On
several nodes it calls srun, which runs the command once on each node; for several processes of a
node it calls torchrun, which runs the command once for each process. Exit codes are passed on.

By default glibc returns large blocks to the kernel after every step and faults them back page by
page in the next. With the settings below it keeps them, which makes small models 1.4 to 2.3 times
faster (docs/performance.md). They are read when a process starts, so it restarts itself.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from knowcap.config.parallelism import WorldSize
from knowcap.errors import UserError

EXIT_INTERRUPTED = 75
"""A training saved a checkpoint before its end; the same command resumes it."""

MALLOC_SETTINGS = {
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}
"""Environment variables of glibc's malloc: grow by 256 MiB, return nothing to the kernel."""

STARTED_BY_SRUN = "KNOWCAP_STARTED_BY_SRUN"
"""Environment variable of processes that srun has started on every node."""

SHUTDOWN_TIMEOUT_S = 600
"""Seconds from SIGTERM to SIGKILL, to save a checkpoint; Slurm may allow less."""

RENDEZVOUS_PORTS = range(20_000, 60_000)
"""Ports of the first of several nodes, chosen by the number of the Slurm job."""


def reduce_garbage_collection() -> None:
    """Make Python's garbage collector run rarely, and not at all at exit.

    torch and its dependencies create a million objects that are never freed. Collections took a
    fifth of the time that a process needs to start, and as long when it ends.
    """
    gc.set_threshold(100_000, 50, 50)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def ensure_environment(num_threads: int) -> None:
    """Restart this process with the environment variables of a training, unless they are set.

    Parameters
    ----------
    num_threads
        Threads of each matrix product.
    """
    variables = {**MALLOC_SETTINGS, "OMP_NUM_THREADS": str(num_threads)}
    if all(os.environ.get(name) == value for name, value in variables.items()):
        return
    _replace_process([sys.executable, *sys.orig_argv[1:]], variables)


def is_torchrun_worker() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_nonzero_rank() -> bool:
    """Whether this process is one of several and not rank 0, which logs for all."""
    return is_torchrun_worker() and os.environ["RANK"] != "0"


def has_sharded_checkpoint(scratch: Path) -> bool:
    """Whether several processes have written a checkpoint, which only MultiProcess can load."""
    return any(path.is_dir() for path in (scratch / "checkpoints").glob("[0-9]*"))


def launch(world_size: WorldSize, num_threads: int, scratch: Path) -> int:
    """Run this command once for each process and return its exit code.

    torchrun does not pass on the exit codes of processes that end after a signal. So a checkpoint
    in the scratch folder, which a training at its end removes, stands for the code 75.

    Parameters
    ----------
    world_size
        More than one process; on several nodes only within a Slurm allocation.
    num_threads
        Threads of a node.
    scratch
        Scratch folder of the run.

    Raises
    ------
    UserError
        If there are several nodes but no Slurm allocation.
    """
    if world_size.num_nodes > 1 and STARTED_BY_SRUN not in os.environ:
        _exec_srun(world_size, num_threads)
    code = _run_torchrun(world_size)
    is_signal = code in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    return EXIT_INTERRUPTED if is_signal and has_sharded_checkpoint(scratch) else code


def _exec_srun(world_size: WorldSize, num_threads: int) -> None:
    """Replace this process by the srun that runs its command once on every node."""
    if shutil.which("srun") is None:
        raise UserError(f"--nodes: {world_size.num_nodes} nodes need Slurm, but srun is not found")
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(
            f"--nodes: {world_size.num_nodes} nodes need a Slurm allocation; run in a job"
        )
    srun = [
        "srun",
        f"--nodes={world_size.num_nodes}",
        f"--ntasks={world_size.num_nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={num_threads}",
        "--kill-on-bad-exit=1",
        *([f"--gres=gpu:{world_size.num_processes}"] if world_size.on_gpus else []),
    ]
    _replace_process([*srun, sys.executable, *sys.orig_argv[1:]], {STARTED_BY_SRUN: "1"})


def _replace_process(command: list[str], variables: dict[str, str]) -> None:
    """Replace this process by another program, with additional environment variables."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(command[0], command, {**os.environ, **variables})


def _run_torchrun(world_size: WorldSize) -> int:
    """Run this command once for each process of this node."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Workers print their own errors; torchrun would repeat them with a traceback.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=world_size.num_nodes,
        max_nodes=world_size.num_nodes,
        nproc_per_node=world_size.num_processes,
        max_restarts=0,  # Snakemake restarts a failed training, which resumes from its checkpoint
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        **_rendezvous_options(world_size.num_nodes),
    )
    if world_size.on_gpus:
        os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # required by Megatron's parallel layers
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return int(failure.exitcode) if failure.exitcode > 0 else 128 - int(failure.exitcode)
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _rendezvous_options(num_nodes: int) -> dict[str, Any]:
    """Return the options of LaunchConfig by which the agents of all nodes connect."""
    if num_nodes == 1:
        return {
            "run_id": str(uuid.uuid4()),
            "rdzv_backend": "c10d",
            "rdzv_endpoint": "localhost:0",
        }
    job = os.environ["SLURM_JOB_ID"]
    port = RENDEZVOUS_PORTS[int(job) % len(RENDEZVOUS_PORTS)]
    return {
        "run_id": job,
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{_first_node_address()}:{port}",
        "rdzv_configs": {"rank": int(os.environ["SLURM_NODEID"])},
    }


def _first_node_address() -> str:
    """Return the address under which Slurm reaches the first node of this job."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_JOB_NODELIST"]
    first = _scontrol("show", "hostnames", nodes).split()[0]
    fields = dict(
        field.split("=", 1) for field in _scontrol("show", "node", first).split() if "=" in field
    )
    return fields.get("NodeAddr", first)


def _scontrol(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
