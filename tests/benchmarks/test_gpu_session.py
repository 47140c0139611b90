"""A session on a machine with a GPU: its steps, their time and what is kept of them."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from knowcap.errors import UserError
from knowcap_benchmarks import gpu_session
from knowcap_benchmarks.gpu_session import STEPS, Step, print_outcomes, run_session

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_session, "GRACE_S", 2.0)


def test_a_failed_step_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    steps = (Step("bad", "exit 3", 0.5), Step("good", "echo made > made.txt", 0.5, ("made.*",)))
    outcomes = run_session(1, Path("kept"), steps)
    assert [each.exit_code for each in outcomes] == [3, 0]
    assert Path("kept/made.txt").read_text() == "made\n"
    recorded = json.loads(Path("kept/session.json").read_text())
    assert [each["name"] for each in recorded["steps"]] == ["bad", "good"]
    with pytest.raises(UserError, match=r"kept: failed steps: bad$"):
        print_outcomes(outcomes, Path("kept"))
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("signals", ["", "TERM"])
def test_a_step_and_its_children_end_when_their_time_is_spent(signals: str) -> None:
    ignored = f"trap '' {signals}; " if signals else ""
    command = f"{ignored}(echo $BASHPID > pid; sleep 60; echo late) & wait; wait"
    start = time.monotonic()
    (outcome,) = run_session(0.05, Path("kept"), [Step("long", command, 1.0)])
    assert time.monotonic() - start < 10
    assert outcome.exit_code != 0
    print_outcomes([outcome], Path("kept"))  # the end of the time is no failure
    time.sleep(0.2)
    status = Path("/proc", Path("pid").read_text().strip(), "status")
    assert not status.exists() or "zombie" in status.read_text()
    assert "late" not in Path("kept/long.log").read_text()


def test_the_tests_and_targets_of_the_steps_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    # Importing all tests takes ten seconds; those of the engines are some of the step's.
    dry = {"tests": "--collect-only --quiet tests/engines"}
    for step in STEPS:
        command = f"{step.command} {dry.get(step.name, '--dry-run')}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
