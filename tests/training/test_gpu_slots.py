"""Jobs of one machine reserve GPUs, and no GPU has more jobs than slots."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from knowcap.errors import UserError
from knowcap.training import gpu_slots


def acquire_and_sleep(
    folder: Path, num_gpus: int, num_slots: int, queue: multiprocessing.Queue
) -> None:
    queue.put(gpu_slots.acquire_slots(num_gpus, num_slots, ["0", "1"], folder))
    time.sleep(60)


class OtherJob:
    """Another process that holds GPUs until it is killed."""

    def __init__(self, folder: Path, num_gpus: int = 1, num_slots: int = 1) -> None:
        context = multiprocessing.get_context("fork")
        self._queue = context.Queue()
        arguments = (folder, num_gpus, num_slots, self._queue)
        self._process = context.Process(target=acquire_and_sleep, args=arguments, daemon=True)
        self._process.start()

    def gpus(self, timeout_s: float = 30) -> list[str]:
        return self._queue.get(timeout=timeout_s)

    def is_waiting(self) -> bool:
        time.sleep(0.3)
        return self._queue.empty()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_slots, "POLL_INTERVAL_S", 0.01)
    jobs = []

    def start(num_gpus: int = 1, num_slots: int = 1) -> OtherJob:
        jobs.append(OtherJob(tmp_path, num_gpus, num_slots))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


def test_each_job_gets_a_gpu_while_some_are_free(start):
    assert start().gpus() == ["0"]
    assert start().gpus() == ["1"]


def test_a_job_waits_for_a_gpu_until_another_job_ends(start):
    first, second = start(), start()
    assert first.gpus() != second.gpus()
    third = start()
    assert third.is_waiting()
    first.kill()
    assert third.gpus() in (["0"], ["1"])


def test_jobs_share_gpus_evenly_by_slots(start):
    jobs = [start(num_slots=2).gpus() for _ in range(4)]
    assert sorted(jobs) == [["0"], ["0"], ["1"], ["1"]]
    assert jobs[0] != jobs[1]
    assert start(num_slots=2).is_waiting()


def test_a_job_on_several_gpus_shares_none_of_them(start):
    small = start(num_slots=2)
    assert small.gpus() == ["0"]
    large = start(num_gpus=2, num_slots=2)
    assert large.is_waiting()
    small.kill()
    assert large.gpus() == ["0", "1"]
    assert start(num_slots=2).is_waiting()


def test_a_job_sees_only_the_gpus_it_reserved(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(gpu_slots, "slots_folder", lambda: tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    gpu_slots.reserve_gpus(1, 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


def test_more_gpus_than_the_machine_has_are_refused(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match=r"--gpus: 1 requested, but this machine has 0"):
        gpu_slots.reserve_gpus(1, 1)


def test_a_slurm_job_uses_the_gpus_that_slurm_gives_it(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    gpu_slots.reserve_gpus(1, 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
