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

from knowcap.artifacts.lock import HeldError, Lock, hold
from knowcap.errors import UserError


def dead_process_id() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def take(path: Path, **options: float) -> Lock:
    with hold(path, **options) as lock:
        lock.check()
        return lock


def leave_behind(path: Path, *, age_s: float = 0.0, **owner: object) -> None:
    """A lock as a killed job leaves it."""
    with hold(path):
        signed = json.loads(path.read_text())
    path.write_text(json.dumps({**signed, "token": "of the dead", **owner}))
    heartbeat = path.stat().st_mtime - age_s
    os.utime(path, (heartbeat, heartbeat))


def test_a_second_writer_is_refused_with_one_line_that_names_the_first(tmp_path):
    path = tmp_path / "lock"
    with hold(path), pytest.raises(UserError) as refusal, hold(path):
        pass
    assert f"process {os.getpid()}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_second_writer_can_wait_for_the_first_to_leave(tmp_path):
    path = tmp_path / "lock"
    with ThreadPoolExecutor(1) as pool:
        with hold(path):
            second = pool.submit(take, path, deadline=math.inf, waiting_s=0.01)
            while not second.running():
                time.sleep(0.001)
        second.result(timeout=30)


def test_a_second_writer_waits_no_longer_than_told(tmp_path):
    path = tmp_path / "lock"
    with hold(path) as lock:
        with pytest.raises(HeldError):
            take(path, deadline=time.monotonic() + 0.05, waiting_s=0.01)
        lock.check()


def test_who_waits_takes_the_lock_over_when_its_heart_stops(tmp_path):
    path = tmp_path / "lock"
    leave_behind(path, host="elsewhere", age_s=59.9)
    take(path, deadline=math.inf, waiting_s=0.01)


def test_a_refused_writer_leaves_the_lock_as_it_was(tmp_path):
    path = tmp_path / "lock"
    with hold(path) as lock:
        with pytest.raises(UserError), hold(path):
            pass
        lock.check()


def test_the_lock_is_gone_after_the_block(tmp_path):
    path = tmp_path / "lock"
    with hold(path):
        pass
    with hold(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_gone_after_an_error(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), hold(path):
        _ = 1 / 0
    assert not path.exists()


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path):
    path = tmp_path / "lock"
    leave_behind(path, pid=dead_process_id())
    with hold(path) as lock:
        lock.check()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_id_says_nothing_about_another_machine(tmp_path):
    path = tmp_path / "lock"
    leave_behind(path, host="elsewhere", pid=dead_process_id())
    with pytest.raises(UserError, match="elsewhere"), hold(path):
        pass


def test_a_lock_of_another_machine_is_taken_over_when_its_heart_has_stopped(tmp_path):
    path = tmp_path / "lock"
    leave_behind(path, host="elsewhere", age_s=61)
    with hold(path) as lock:
        lock.check()


def test_an_unsigned_lock_is_respected_while_it_is_young(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    with pytest.raises(UserError, match="another job"), hold(path):
        pass


def test_an_unsigned_lock_is_taken_over_when_it_is_old(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    os.utime(path, (0, 0))
    with hold(path) as lock:
        lock.check()


def test_the_heart_beats(tmp_path):
    path = tmp_path / "lock"
    with hold(path, heartbeat_s=0.01):
        os.utime(path, (0, 0))
        for _ in range(1000):
            if path.stat().st_mtime > 0:
                break
            threading.Event().wait(0.01)
        assert path.stat().st_mtime > 0


def test_a_holder_that_was_taken_over_stops_and_leaves_the_lock_alone(tmp_path):
    path = tmp_path / "lock"
    with hold(path, heartbeat_s=0.01) as lock:
        path.write_text(json.dumps({"token": "another", "host": "elsewhere", "pid": 1}))
        with pytest.raises(UserError, match="lost to another job"):
            lock.check()
    assert json.loads(path.read_text())["token"] == "another"


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that change places as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("attempt", range(10))
def test_only_one_of_many_gets_a_stale_lock(tmp_path, attempt):
    path = tmp_path / "lock"
    leave_behind(path, pid=dead_process_id())
    tried = threading.Barrier(8, timeout=30)

    def contend(_: int) -> str:
        try:
            with hold(path):
                tried.wait()
                return "held"
        except UserError:
            tried.wait()
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(contend, range(8)))
    assert sorted(outcomes) == ["held"] + ["refused"] * 7
