import errno
import logging
from pathlib import Path

import pytest
import torch

from knowcap.errors import UserError
from knowcap.training.checkpoint import load, load_tensors, save, save_tensors

CPU = torch.device("cpu")


def state(iteration: int, identity: str = "this training") -> dict:
    return {
        "identity": identity,
        "iteration": iteration,
        "parameters": torch.arange(1000.0) + iteration,
        "cursor": (0, [(1, 2)]),
    }


def test_a_checkpoint_is_loaded_bit_for_bit(tmp_path):
    save(state(7), tmp_path)
    loaded = load("this training", tmp_path, CPU)
    assert torch.equal(loaded.pop("parameters"), torch.arange(1000.0) + 7)
    assert loaded == {"identity": "this training", "iteration": 7, "cursor": (0, [(1, 2)])}


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path):
    assert load("this training", tmp_path, CPU) is None
    assert load("this training", tmp_path / "missing", CPU) is None


def test_the_newest_checkpoint_is_loaded(tmp_path):
    for iteration in (9, 10, 1000):
        save(state(iteration), tmp_path)
    assert load("this training", tmp_path, CPU)["iteration"] == 1000


def test_the_newest_two_checkpoints_are_kept(tmp_path):
    for iteration in (9, 10, 1000):
        save(state(iteration), tmp_path)
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == [10, 1000]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_skipped_with_a_warning(tmp_path, caplog, share):
    save(state(1), tmp_path)
    save(state(2), tmp_path)
    newest = max(tmp_path.iterdir())
    content = newest.read_bytes()
    newest.write_bytes(content[: int(share * len(content))])
    with caplog.at_level(logging.WARNING):
        assert load("this training", tmp_path, CPU)["iteration"] == 1
    assert str(newest) in caplog.text


def test_a_damaged_checkpoint_is_not_one_of_the_two_that_are_kept(tmp_path):
    for iteration in (1, 3):
        save(state(iteration), tmp_path)
    max(tmp_path.iterdir()).write_bytes(b"damaged")
    load("this training", tmp_path, CPU)
    save(state(2), tmp_path)
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == [1, 2]


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    save(state(1, identity="other"), tmp_path)
    with pytest.raises(UserError, match="another run"):
        load("this training", tmp_path, CPU)


def test_the_incomplete_file_of_a_killed_job_is_removed(tmp_path):
    (tmp_path / ".000000000005.pt.abc.pt").write_bytes(b"half")
    save(state(1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["000000000001.pt"]


def test_missing_weights_are_reported_in_one_line(tmp_path):
    with pytest.raises(UserError, match="missing"):
        load_tensors(tmp_path / "model.pt", CPU)


def flip_a_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_noticed(tmp_path, caplog):
    save(state(1), tmp_path)
    size = max(tmp_path.iterdir()).stat().st_size
    for position in [*range(0, size, 97), size - 1]:
        save(state(2), tmp_path)
        flip_a_bit(max(tmp_path.iterdir()), position)
        assert load("this training", tmp_path, CPU)["iteration"] == 1, position
    assert "damaged" in caplog.text


def test_a_checkpoint_that_cannot_be_read_is_kept(tmp_path, monkeypatch):
    save(state(1), tmp_path)

    def fail(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", str(self))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(UserError, match=r"000000000001\.pt: Stale file handle \(ESTALE\)"):
        load("this training", tmp_path, CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["000000000001.pt"]


@pytest.mark.parametrize("kept_bytes", [0, 100, 4000])
def test_weights_that_are_no_tensors_are_refused_in_one_line(tmp_path, kept_bytes):
    path = tmp_path / "model.pt"
    save_tensors({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match=r"model\.pt: damaged, not a file of tensors") as refused:
        load_tensors(path, CPU)
    assert "\n" not in str(refused.value)


class Payload:
    def __reduce__(self):
        return (print, ("in a file of weights",))


def test_code_in_a_file_of_weights_is_not_run(tmp_path, capsys):
    path = tmp_path / "model.pt"
    torch.save({"weight": Payload()}, path)
    with pytest.raises(UserError, match="damaged, not a file of tensors"):
        load_tensors(path, CPU)
    assert capsys.readouterr().out == ""
