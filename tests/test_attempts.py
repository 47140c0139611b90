"""Attempts of a command: mistakes are kept, and failures that may pass are not."""

from __future__ import annotations

import argparse
import errno
from pathlib import Path

import pytest

from knowcap.artifacts.checksums import DamagedError
from knowcap.artifacts.lock import LockHeldError, LockLostError
from knowcap.artifacts.storage import StorageError
from knowcap.commands.attempts import add_attempt_options, refuse_repetition
from knowcap.errors import UserError
from knowcap.training.gpu_slots import NoGpuError


def options(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_attempt_options(parser)
    return parser.parse_args([str(each) for each in arguments])


def attempt(number: int, file: Path, error: Exception | None = None) -> None:
    with refuse_repetition(options("--attempt", number, "--refusal", file)):
        if error:
            raise error


def test_a_mistake_stops_the_next_attempt_with_the_same_lines(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "train.refused"
    with pytest.raises(UserError):
        attempt(1, file, UserError("lr: 0\nseed: -1"))
    with pytest.raises(UserError) as refused:
        attempt(2, file)
    assert str(refused.value).splitlines() == [
        *("lr: 0", "seed: -1"),
        f"{file}: this was refused before, not tried again",
    ]


def test_the_first_attempt_of_another_workflow_tries_again(tmp_path: Path) -> None:
    file = tmp_path / "train.refused"
    with pytest.raises(UserError):
        attempt(1, file, UserError("lr: 0"))
    attempt(1, file)
    assert not file.exists()
    attempt(2, file)


@pytest.mark.parametrize(
    "error",
    [
        *(kind("passes") for kind in (StorageError, LockHeldError, LockLostError, NoGpuError)),
        DamagedError("passes"),
        OSError(errno.ENOSPC, "full"),
        RuntimeError("a bug"),
    ],
)
def test_a_failure_that_may_pass_is_repeated(tmp_path: Path, error: Exception) -> None:
    file = tmp_path / "train.refused"
    with pytest.raises(type(error)):
        attempt(1, file, error)
    attempt(2, file)


def test_a_refusal_that_cannot_be_kept_leaves_the_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="lr: 0"):
        attempt(1, tmp_path / "file" / "train.refused", UserError("lr: 0"))


def test_only_rank_zero_keeps_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.refused"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError):
        attempt(1, file, UserError("lr: 0"))
    assert not file.exists()


def test_an_attempt_too_many_stops_at_once() -> None:
    with refuse_repetition(options("--attempt", 6, "--max-attempts", 6)):
        pass
    given = options("--attempt", 7, "--max-attempts", 6)
    with pytest.raises(UserError, match="7 is one too many, at most 6"), refuse_repetition(given):
        raise AssertionError
