"""Slurm: whether it can be reached, and the limits of its partitions."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from knowcap.errors import UserError


class Partition(NamedTuple):
    """Largest requests of a job that a partition accepts."""

    name: str
    is_default: bool
    max_minutes: float
    max_memory_mb: float
    """Memory of the largest node, or less if the partition limits it."""


class Request(NamedTuple):
    """Resources of an attempt of a job."""

    rule: str
    attempt: int
    resources: Mapping[str, Any]


LIMITS = {"runtime": ("max_minutes", "minutes"), "mem_mb": ("max_memory_mb", "megabytes")}
"""Field of a partition that limits a resource, and the unit of both."""


def check_slurm() -> None:
    """Raise a UserError if jobs cannot be submitted to Slurm from this machine."""
    if not shutil.which("sbatch"):
        raise _unreachable("there is no sbatch on this machine")
    _call("sinfo", "--noheader")


def check_requests(requests: Iterable[Request], partitions: Mapping[str, Partition]) -> None:
    """Raise a UserError if a partition refuses a request, or lets it wait forever.

    Slurm refuses a job with more memory than its nodes have. A job with a longer time limit than
    that of its partition is accepted by default and never starts.

    Parameters
    ----------
    requests
        Resources of jobs, also of later attempts.
    partitions
        Partitions by name.

    Raises
    ------
    UserError
        One line for each rule, partition and resource, with its largest request.
    """
    default = next((each for each in partitions.values() if each.is_default), None)
    largest: dict[tuple[str, str, str], tuple[int, Request]] = {}
    for request in requests:
        name = request.resources.get("slurm_partition")
        partition = partitions.get(str(name)) if name else default
        for resource, (field, _) in LIMITS.items() if partition else ():
            value = request.resources.get(resource)
            key = (request.rule, partition.name, resource) if partition else ("", "", "")
            if not isinstance(value, int) or value <= getattr(partition, field):
                continue
            if key not in largest or value > largest[key][0]:
                largest[key] = (value, request)
    if largest:
        raise UserError.of_lines(
            f"{rule}: {resource}: {value} {LIMITS[resource][1]} in attempt {request.attempt} are "
            f"more than partition {name} allows, "
            f"{getattr(partitions[name], LIMITS[resource][0]):.0f}; change the profile "
            f"(scontrol show partition {name})"
            for (rule, name, resource), (value, request) in sorted(largest.items())
        )


def partitions() -> dict[str, Partition]:
    """Return the partitions of this cluster by name.

    Raises
    ------
    UserError
        If Slurm does not respond.
    """
    memory: dict[str, float] = {}
    for line in _call("sinfo", "--exact", "--noheader", "--format=%R|%m").splitlines():
        name, _, megabytes = line.partition("|")
        memory[name] = max(memory.get(name, 0), _number(megabytes))
    return {
        partition.name: partition
        for line in _call("scontrol", "show", "partition", "--oneliner").splitlines()
        if (partition := _partition(line, memory))
    }


def _partition(line: str, memory: Mapping[str, float]) -> Partition | None:
    """Parse a line of `scontrol show partition --oneliner`; None if it is another one."""
    fields = dict(field.split("=", 1) for field in line.split() if "=" in field)
    if "PartitionName" not in fields:
        return None
    name = fields["PartitionName"]
    per_node = _number(fields.get("MaxMemPerNode", ""))
    return Partition(
        name=name,
        is_default=fields.get("Default") == "YES",
        max_minutes=_minutes(fields.get("MaxTime", "")),
        max_memory_mb=min(per_node, memory.get(name, math.inf)),
    )


def _number(text: str) -> float:
    """Return a number; infinity for UNLIMITED and other text."""
    digits = text.strip().rstrip("+")
    return float(digits) if digits.isdecimal() else math.inf


def _minutes(text: str) -> float:
    """Return the minutes of `days-hours:minutes:seconds`; infinity for UNLIMITED and other text."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in [*parts, days or "0"]):
        return math.inf
    hours, minutes, seconds = ([0, 0, 0] + [int(part) for part in parts])[-3:]
    return 1440 * int(days or 0) + 60 * hours + minutes + seconds / 60


def _call(*command: str) -> str:
    """Return the output of a Slurm command.

    Raises
    ------
    UserError
        If it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _unreachable(f"{command[0]} failed ({last_line})")
    return done.stdout


def _unreachable(reason: str) -> UserError:
    return UserError(f"executor: slurm, but {reason}; start Snakemake where jobs are submitted")
