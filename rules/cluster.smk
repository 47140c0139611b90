"""What jobs on a cluster need besides: time limits, duplicates, and a cluster."""

import shutil
import subprocess
import sys


def replaced(outputs):
    """Outputs that a cluster's job does not delete before it begins, as it replaces them whole.

    The same job can be queued twice, by a workflow that was killed and by the next one; the second
    to begin would delete what the first has made, and others read.
    """
    return outputs if workflow.is_main_process else update(outputs)


def time_budget(resources):
    """Seconds of training within the time limit that a profile sets, as an option.

    A tenth of the limit, from one to five minutes, is for starting and for leaving in order. If
    nothing is left of it, a training makes a step and leaves.
    """
    minutes = resources.get("runtime")
    if minutes is None:
        return []
    return ["--time-budget-s", 60 * minutes - min(max(6 * minutes, 60), 300)]


def refuse_without_slurm():
    """Stop in one line, before anything is queued, where no Slurm answers."""
    if not shutil.which("sbatch"):
        reason = "there is no sbatch on this machine"
    else:
        asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True)
        said = asked.stderr.strip().splitlines()[-1:] or ["sinfo failed"]
        reason = f"Slurm does not answer ({said[0]})" if asked.returncode else ""
    if reason:
        print(f"executor: slurm, but {reason}; start where jobs are submitted", file=sys.stderr)
        sys.exit(2)


onstart:
    if workflow.executor_plugin.name == "slurm":
        refuse_without_slurm()
