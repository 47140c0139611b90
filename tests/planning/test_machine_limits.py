"""CPUs and memory that a container, a Slurm job or a machine allows, from made-up files."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowcap.planning.machine_limits import cpu_quota, memory_bytes

MEMINFO = "MemTotal:       16000000 kB\nMemFree:        1 kB\n"


def make(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """Write the cgroup of a process and files below /sys/fs/cgroup."""
    given = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": cgroup, **given}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": ""}, None),
        ("0::/", {}, None),
        ("0::/slice/job", {"slice/job/cpu.max": "max 100000", "slice/cpu.max": "300000 100000"}, 3),
        (
            "0::/slice/job",
            {"slice/job/cpu.max": "200000 100000", "slice/cpu.max": "300000 100000"},
            2,
        ),
        ("0::/docker/of-the-host", {"cpu.max": "400000 100000"}, 4),
        ("0::/../other", {"cpu.max": "400000 100000"}, 4),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        (
            "4:cpu,cpuacct:/job",
            {
                f"cpu,cpuacct/job/cpu.cfs_{n}_us": v
                for n, v in {"quota": "70000", "period": "10000"}.items()
            },
            7,
        ),
        ("4:memory:/", {"cpu.max": "400000 100000"}, None),
    ],
)
def test_the_least_quota_of_the_cgroups_of_a_process_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], cores: int | None
) -> None:
    assert cpu_quota(make(tmp_path, cgroup, files)) == cores


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/", {}, 16_384_000_000),
        ("0::/", {"memory.max": "max"}, 16_384_000_000),
        ("0::/", {"memory.max": "2000000000"}, 2_000_000_000),
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "3000000000"}, 3_000_000_000),
        ("0::/", {"memory.max": "99000000000"}, 16_384_000_000),
        ("3:memory:/a", {"memory/a/memory.limit_in_bytes": "4000000000"}, 4_000_000_000),
        ("3:memory:/a", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 16_384_000_000),
    ],
)
def test_the_least_limit_of_the_cgroups_and_of_the_machine_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], limit: int
) -> None:
    root = make(tmp_path, cgroup, files)
    (root / "proc/meminfo").write_text(MEMINFO)
    assert memory_bytes(root) == limit


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert memory_bytes(tmp_path) is None


def test_this_machine_has_memory() -> None:
    assert (memory_bytes() or 0) > 10**8
