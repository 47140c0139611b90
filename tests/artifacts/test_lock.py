import errno
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knowcap.artifacts.lock import Lock, LockHeldError, acquire
from knowcap.errors import UserError


def dead_process_id() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def acquire_and_check(path: Path, **options: float) -> Lock:
    with acquire(path, **options) as lock:
        lock.check()
        return lock


def write_lock_of_killed_job(path: Path, *, age_s: float = 0.0, **owner: object) -> None:
    """Write the lock file that a killed job leaves."""
    with acquire(path):
        content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "token": "of a killed job", **owner}))
    refreshed = path.stat().st_mtime - age_s
    os.utime(path, (refreshed, refreshed))


def test_a_second_job_is_refused_in_one_line_that_names_the_first(tmp_path):
    path = tmp_path / "lock"
    with acquire(path), pytest.raises(UserError) as refusal, acquire(path):
        pass
    assert f"process {os.getpid()}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_second_job_acquires_the_lock_when_the_first_releases_it(tmp_path):
    path = tmp_path / "lock"
    with ThreadPoolExecutor(1) as pool:
        with acquire(path):
            second = pool.submit(acquire_and_check, path, deadline=math.inf, poll_interval_s=0.01)
            while not second.running():
                time.sleep(0.001)
        second.result(timeout=30)


def test_a_second_job_stops_waiting_at_its_deadline(tmp_path):
    path = tmp_path / "lock"
    with acquire(path) as lock:
        with pytest.raises(LockHeldError):
            acquire_and_check(path, deadline=time.monotonic() + 0.05, poll_interval_s=0.01)
        lock.check()


def test_a_waiting_job_takes_the_lock_over_when_it_becomes_stale(tmp_path):
    path = tmp_path / "lock"
    write_lock_of_killed_job(path, host="elsewhere", age_s=59.9)
    acquire_and_check(path, deadline=math.inf, poll_interval_s=0.01)


def test_a_refused_job_does_not_change_the_lock(tmp_path):
    path = tmp_path / "lock"
    with acquire(path) as lock:
        with pytest.raises(UserError), acquire(path):
            pass
        lock.check()


def test_the_lock_file_is_deleted_after_the_block(tmp_path):
    path = tmp_path / "lock"
    with acquire(path):
        pass
    with acquire(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_file_is_deleted_after_an_error(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), acquire(path):
        _ = 1 / 0
    assert not path.exists()


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path):
    path = tmp_path / "lock"
    write_lock_of_killed_job(path, pid=dead_process_id())
    with acquire(path) as lock:
        lock.check()
    assert list(tmp_path.iterdir()) == []


def test_a_process_id_of_another_machine_is_not_looked_up_here(tmp_path):
    path = tmp_path / "lock"
    write_lock_of_killed_job(path, host="elsewhere", pid=dead_process_id())
    with pytest.raises(UserError, match="elsewhere"), acquire(path):
        pass


def test_a_stale_lock_of_another_machine_is_taken_over(tmp_path):
    path = tmp_path / "lock"
    write_lock_of_killed_job(path, host="elsewhere", age_s=61)
    with acquire(path) as lock:
        lock.check()


def test_a_fresh_empty_lock_file_is_respected(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    with pytest.raises(UserError, match="another job"), acquire(path):
        pass


def test_a_stale_empty_lock_file_is_taken_over(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    os.utime(path, (0, 0))
    with acquire(path) as lock:
        lock.check()


def is_refreshed(path: Path) -> bool:
    os.utime(path, (0, 0))
    for _ in range(1000):
        if path.stat().st_mtime > 0:
            return True
        threading.Event().wait(0.01)
    return False


def test_the_lock_file_is_refreshed(tmp_path):
    path = tmp_path / "lock"
    with acquire(path, heartbeat_s=0.01):
        assert is_refreshed(path)


def test_a_read_error_does_not_end_the_refreshing(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    with acquire(path, heartbeat_s=0.01):
        errors = iter([OSError(errno.ESTALE, "Stale file handle")] * 3)
        read_text = Path.read_text

        def failing_at_first(self: Path, **options: str) -> str:
            for error in errors:
                raise error
            return read_text(self, **options)

        monkeypatch.setattr(Path, "read_text", failing_at_first)
        assert is_refreshed(path)


def test_a_job_that_lost_its_lock_stops_and_does_not_delete_the_new_one(tmp_path):
    path = tmp_path / "lock"
    with acquire(path, heartbeat_s=0.01) as lock:
        path.write_text(json.dumps({"token": "another", "host": "elsewhere", "pid": 1}))
        with pytest.raises(UserError, match="another job took this lock"):
            lock.check()
    assert json.loads(path.read_text())["token"] == "another"


@pytest.fixture
def frequent_thread_switches() -> Iterator[None]:
    """Switch threads as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("frequent_thread_switches")
@pytest.mark.parametrize("attempt", range(10))
def test_only_one_of_many_threads_takes_a_stale_lock_over(tmp_path, attempt):
    path = tmp_path / "lock"
    write_lock_of_killed_job(path, pid=dead_process_id())
    tried = threading.Barrier(8, timeout=30)

    def contend(_: int) -> str:
        try:
            with acquire(path):
                tried.wait()
                return "held"
        except UserError:
            tried.wait()
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(contend, range(8)))
    assert sorted(outcomes) == ["held"] + ["refused"] * 7
