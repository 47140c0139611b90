"""Who trains follows from what a profile gives, and one command serves all cases."""

import os
import subprocess
import sys

import pytest

from knowcap.config.parallelism import WorldSize, world_size_of
from knowcap.errors import UserError
from knowcap.training import launch


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((1, 1, 0), WorldSize(1, 1, on_gpus=False)),
        ((1, 2, 0), WorldSize(1, 2, on_gpus=False)),
        ((1, 1, 1), WorldSize(1, 1, on_gpus=True)),
        ((1, 1, 8), WorldSize(1, 8, on_gpus=True)),
        ((2, 1, 16), WorldSize(2, 8, on_gpus=True)),
        ((2, 1, 0), WorldSize(2, 1, on_gpus=False)),
    ],
)
def test_each_gpu_has_a_process_of_its_own(given, expected):
    assert world_size_of(*given) == expected


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((0, 1, 0), "--nodes: 0 is fewer than 1"),
        ((1, 0, 0), "--processes: 0 is fewer than 1"),
        ((2, 1, 3), "--gpus: 3 are not the same number on each of 2 nodes"),
        ((1, 2, 2), "leave --processes out"),
    ],
)
def test_a_team_that_cannot_be_is_refused(given, error):
    with pytest.raises(UserError, match=error):
        world_size_of(*given)


def test_several_nodes_need_slurm(monkeypatch):
    monkeypatch.delenv(launch.IN_STEP, raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="--nodes: 2 nodes need Slurm"):
        launch.launch(WorldSize(2, 1, on_gpus=False), 1)


PROGRAM = """
import os, sys
from knowcap.config.parallelism import WorldSize
from knowcap.training.launch import is_nonzero_rank, is_torchrun_worker, launch
if not is_torchrun_worker():
    sys.exit(launch(WorldSize(1, 2, on_gpus=False), 1))
rank, world_size = os.environ["RANK"], os.environ["WORLD_SIZE"]
sys.stdout.write(f"rank {rank} of {world_size} {is_nonzero_rank()}\\n")
sys.stdout.flush()
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 75])
def test_processes_are_started_once_each_and_their_exit_code_comes_through(tmp_path, code):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, program, str(code)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr == ""
    if code == 0:
        assert sorted(done.stdout.splitlines()) == ["rank 0 of 2 False", "rank 1 of 2 True"]
