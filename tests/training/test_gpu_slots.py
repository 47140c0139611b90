"""Jobs of one machine reserve GPUs, and no GPU has more jobs than slots."""

import multiprocessing
import os
import tempfile
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


NOBODY = 65534


def acquire_as_nobody(folder: Path, queue: multiprocessing.Queue) -> None:
    os.setuid(NOBODY)
    try:
        queue.put(gpu_slots.acquire_slots(1, 1, ["0", "1"], folder))
    except UserError as error:
        queue.put(str(error))
    time.sleep(60)


@pytest.fixture
def second_user(monkeypatch):
    """Starts a job of another user with the slots in a folder that both can reach."""
    if os.geteuid():
        pytest.skip("needs root, to be two users")
    monkeypatch.setattr(gpu_slots, "POLL_INTERVAL_S", 0.01)
    context = multiprocessing.get_context("fork")
    processes = []

    def start(folder: Path) -> multiprocessing.Queue:
        queue = context.Queue()
        processes.append(context.Process(target=acquire_as_nobody, args=(folder, queue)))
        processes[-1].start()
        return queue

    yield start
    for process in processes:
        process.kill()
        process.join()


@pytest.fixture
def shared_temporary_folder():
    """A folder like /tmp, which all users can write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o1777)
        yield Path(name)


def test_two_users_share_the_gpus_of_a_machine_whatever_their_umask(
    second_user, shared_temporary_folder
):
    folder = shared_temporary_folder / "slots"
    mask = os.umask(0o077)
    try:
        assert gpu_slots.acquire_slots(1, 1, ["0", "1"], folder) == ["0"]
    finally:
        os.umask(mask)
    assert second_user(folder).get(timeout=30) == ["1"]
    third = second_user(folder)
    time.sleep(0.3)
    assert third.empty()


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_folder_of_slots_that_another_user_does_not_share_is_refused_in_one_line(
    second_user, shared_temporary_folder, mode
):
    folder = shared_temporary_folder / "slots"
    folder.mkdir(mode=mode)
    message = second_user(folder).get(timeout=30)
    assert message.startswith(f"{folder}")
    assert "of another user who does not share it; delete it, or choose another folder" in message


def test_a_gpu_that_torch_cannot_use_is_reported(monkeypatch, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    gpu_slots.warn_of_unusable_gpus()
    assert caplog.messages[0].startswith("GPU 3 is not used, the CPU computes: ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpu_slots.warn_of_unusable_gpus()
    assert len(caplog.messages) == 1
