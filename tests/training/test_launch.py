"""The number of processes follows from a profile, and one command starts them all."""

import atexit
import gc
import os
import subprocess
import sys

import pytest

from knowcap.config.parallelism import WorldSize, world_size_of
from knowcap.errors import UserError
from knowcap.training import launch


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((1, 1, 0), WorldSize(1, 1, on_gpus=False)),
        ((1, 2, 0), WorldSize(1, 2, on_gpus=False)),
        ((1, 1, 1), WorldSize(1, 1, on_gpus=True)),
        ((1, 1, 8), WorldSize(1, 8, on_gpus=True)),
        ((2, 1, 16), WorldSize(2, 8, on_gpus=True)),
        ((2, 1, 0), WorldSize(2, 1, on_gpus=False)),
    ],
)
def test_each_gpu_has_one_process(options, expected):
    assert world_size_of(*options) == expected


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ((0, 1, 0), "--nodes: 0 is not allowed"),
        ((1, 0, 0), "--processes: 0 is not allowed"),
        ((2, 1, 3), "--gpus: 3 cannot be divided evenly among 2 nodes"),
        ((1, 2, 2), "leave --processes out"),
    ],
)
def test_impossible_numbers_of_processes_are_refused(options, error):
    with pytest.raises(UserError, match=error):
        world_size_of(*options)


def test_several_nodes_need_slurm(monkeypatch, tmp_path):
    monkeypatch.delenv(launch.STARTED_BY_SRUN, raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="--nodes: 2 nodes need Slurm"):
        launch.launch(WorldSize(2, 1, on_gpus=False), 1, tmp_path)


PROGRAM = """
import os, sys
from pathlib import Path
from knowcap.config.parallelism import WorldSize
from knowcap.training.launch import is_nonzero_rank, is_torchrun_worker, launch
if not is_torchrun_worker():
    sys.exit(launch(WorldSize(1, 2, on_gpus=False), 1, Path(__file__).parent))
rank, world_size = os.environ["RANK"], os.environ["WORLD_SIZE"]
sys.stdout.write(f"rank {rank} of {world_size} {is_nonzero_rank()}\\n")
sys.stdout.flush()
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 75])
def test_each_process_is_started_once_and_its_exit_code_is_returned(tmp_path, code):
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


IMPORT = """
import gc, os
before = gc.get_threshold(), dict(os.environ)
import knowcap.training.gpu_slots, knowcap.training.launch, knowcap.training.metrics_logger
assert (gc.get_threshold(), dict(os.environ)) == before
"""


def test_importing_the_package_changes_no_setting_of_the_process():
    subprocess.run([sys.executable, "-c", IMPORT], check=True, timeout=120)


def test_the_garbage_collector_is_set_to_run_rarely():
    threshold = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)  # Python's own
        launch.reduce_garbage_collection()
        assert gc.get_threshold()[0] > 700
    finally:
        gc.set_threshold(*threshold)
        atexit.unregister(gc.freeze)


def test_only_several_processes_write_checkpoints_as_folders(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "000000000003.pt").touch()
    assert not launch.has_sharded_checkpoint(tmp_path)
    (tmp_path / "checkpoints" / "000000000007").mkdir()
    assert launch.has_sharded_checkpoint(tmp_path)
