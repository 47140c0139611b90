"""How the processes of a training come to be: their environment, their number, their nodes.

One command serves one process, the GPUs of a machine and several nodes. Called on several nodes it
has Slurm start it once on each; called for several processes it has torchrun start it once for
each; and then it trains. Exit codes come through.

glibc returns large blocks to the kernel after every step and faults them back page by page in
the next. Keeping them makes small models 1.4 to 2.3 times faster (docs/performance.md), and it
can only be asked for before the process starts.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from knowcap.config.parallelism import WorldSize
from knowcap.errors import UserError

MALLOC_SETTINGS = {
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}
"""Settings of glibc's malloc: grow by 256 MiB, give nothing back."""

IN_STEP = "KNOWCAP_IN_STEP"
"""Says to a process that Slurm has started it on every node."""

LEAVING_S = 600
"""Time for processes that are told to leave to save what they share; Slurm may give them less."""

PORTS = range(20_000, 60_000)
"""Where the first of several nodes listens: by the number of the Slurm job."""


def ensure_environment(num_threads: int) -> None:
    """Start this process again with the environment that training wants, unless it has it.

    Parameters
    ----------
    num_threads
        Threads of every product of matrices; processes beside this one use the other cores.
    """
    wanted = {**MALLOC_SETTINGS, "OMP_NUM_THREADS": str(num_threads)}
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    _become([sys.executable, *sys.orig_argv[1:]], wanted)


def is_torchrun_worker() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_nonzero_rank() -> bool:
    """Whether this process is one of several and not the first, which speaks for all."""
    return is_torchrun_worker() and os.environ["RANK"] != "0"


def has_sharded_checkpoint(scratch: Path) -> bool:
    """Whether several processes have begun a run: then one process goes on in their way."""
    return any(path.is_dir() for path in (scratch / "checkpoints").glob("[0-9]*"))


def launch(team: WorldSize, num_threads: int) -> int:
    """Start this very command once for each process of a team, and answer its exit code.

    Parameters
    ----------
    team
        More than one process. On several nodes this is called within an allocation of Slurm.
    num_threads
        Of a node.

    Raises
    ------
    UserError
        If there are several nodes and no Slurm.
    """
    if team.num_nodes > 1 and IN_STEP not in os.environ:
        _start_on_nodes(team, num_threads)
    return _start_here(team)


def _start_on_nodes(team: WorldSize, num_threads: int) -> None:
    """Become the Slurm step that runs this command once on every node."""
    if shutil.which("srun") is None:
        raise UserError(f"--nodes: {team.num_nodes} nodes need Slurm, and there is no srun")
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(f"--nodes: {team.num_nodes} nodes need an allocation, this is no Slurm job")
    step = [
        "srun",
        f"--nodes={team.num_nodes}",
        f"--ntasks={team.num_nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={num_threads}",
        "--kill-on-bad-exit=1",
        *([f"--gres=gpu:{team.num_processes}"] if team.on_gpus else []),
    ]
    _become([*step, sys.executable, *sys.orig_argv[1:]], {IN_STEP: "1"})


def _become(command: list[str], environment: dict[str, str]) -> None:
    """Turn this process into another program, with no shell between."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(command[0], command, {**os.environ, **environment})


def _start_here(team: WorldSize) -> int:
    """Run this command once for every process of this node."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What its workers have to say they say themselves.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=team.num_nodes,
        max_nodes=team.num_nodes,
        nproc_per_node=team.num_processes,
        max_restarts=0,  # a training that stopped goes on from its checkpoint, in a new job
        shutdown_timeout=LEAVING_S,
        **_rendezvous(team.num_nodes),
    )
    if team.on_gpus:
        os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # as Megatron's layers want it
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


def _rendezvous(num_nodes: int) -> dict[str, Any]:
    """Where the agents of all nodes find one another."""
    if num_nodes == 1:
        return {
            "run_id": str(uuid.uuid4()),
            "rdzv_backend": "c10d",
            "rdzv_endpoint": "localhost:0",
        }
    job = os.environ["SLURM_JOB_ID"]
    port = PORTS[int(job) % len(PORTS)]
    return {
        "run_id": job,
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{_address_of_first_node()}:{port}",
        "rdzv_configs": {"rank": int(os.environ["SLURM_NODEID"])},
    }


def _address_of_first_node() -> str:
    """Where Slurm itself reaches the first node of this step."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_JOB_NODELIST"]
    first = _scontrol("show", "hostnames", nodes).split()[0]
    facts = dict(
        fact.split("=", 1) for fact in _scontrol("show", "node", first).split() if "=" in fact
    )
    return facts.get("NodeAddr", first)


def _scontrol(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
