"""Whether Slurm can be reached, and requests beyond the limits of its partitions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from knowcap.errors import UserError
from knowcap.planning.slurm_limits import (
    Partition,
    Request,
    check_requests,
    check_slurm,
    partitions,
)


@pytest.mark.parametrize(
    ("sinfo", "message"),
    [
        (None, "there is no sbatch on this machine"),
        ("echo 'sinfo: error: no controller' >&2; exit 1", r"sinfo failed \(.*no controller\)"),
        ("exit 1", r"sinfo failed \(no message\)"),
    ],
)
def test_a_slurm_that_cannot_be_reached_is_one_line(
    tmp_path, monkeypatch, sinfo: str | None, message: str
) -> None:
    for name in ("sbatch", "sinfo") if sinfo else ():
        (tmp_path / name).write_text(f"#!/bin/sh\n{sinfo}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=message):
        check_slurm()


SINFO = """\
short|6000
short|64000
long|128000+
"""

SCONTROL = """\
PartitionName=short Default=YES MaxTime=01:30:00 MinNodes=0 MaxMemPerNode=UNLIMITED
PartitionName=long Default=NO MaxTime=2-00:00:30 MaxMemPerNode=100000
PartitionName=free Default=NO MaxTime=UNLIMITED MaxMemPerNode=UNLIMITED
"""

SHORT = Partition("short", is_default=True, max_minutes=90, max_memory_mb=64000)
LONG = Partition("long", is_default=False, max_minutes=2880.5, max_memory_mb=100000)
FREE = Partition("free", is_default=False, max_minutes=math.inf, max_memory_mb=math.inf)
PARTITIONS = {each.name: each for each in (SHORT, LONG, FREE)}


def test_limits_are_read_from_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"sinfo": SINFO, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{text}END\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert partitions() == PARTITIONS


@pytest.mark.parametrize(
    "resources",
    [
        {"runtime": 90, "mem_mb": 64000},
        {"runtime": 2880, "mem_mb": 100000, "slurm_partition": "long"},
        {"runtime": 10**6, "mem_mb": 10**9, "slurm_partition": "free"},
        {"runtime": 10**6, "slurm_partition": "another"},
        {"mem_mb": "<TBD>"},
        {},
    ],
)
def test_a_request_within_the_limits_is_submitted(resources: dict[str, object]) -> None:
    check_requests([Request("train", 1, resources)], PARTITIONS)


def test_each_kind_of_request_beyond_a_limit_is_one_line() -> None:
    requests = [
        *(Request("train", n, {"runtime": 60 * n, "mem_mb": 16000 * n}) for n in (1, 2, 5)),
        Request("evaluate", 1, {"runtime": 2881, "slurm_partition": "long"}),
        Request("corpus", 1, {"runtime": 1}),
    ]
    with pytest.raises(UserError) as refused:
        check_requests(requests, PARTITIONS)
    more = (
        "are more than partition {0} allows, {1}; change the profile (scontrol show partition {0})"
    )
    assert str(refused.value).splitlines() == [
        f"evaluate: runtime: 2881 minutes in attempt 1 {more.format('long', 2880)}",
        f"train: mem_mb: 80000 megabytes in attempt 5 {more.format('short', 64000)}",
        f"train: runtime: 300 minutes in attempt 5 {more.format('short', 90)}",
    ]


def test_without_a_default_partition_nothing_is_known() -> None:
    check_requests([Request("train", 1, {"runtime": 10**6})], {"long": LONG})
