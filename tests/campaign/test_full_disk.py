"""Full disks and limits at every stage: one line, the last checkpoint, and a resume that fits."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from knowcap.config import Evaluation
from knowcap.data.corpus_writer import write_corpus
from tests.campaign import IS_FULL
from tests.conftest import STUDY
from tests.support.tiny import tiny_run
from tests.workflow.conftest import Checkout

RUN = tiny_run(optimization__exposures=200)
KIB = 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a corpus, and the run trained without interruption."""
    folder = tmp_path_factory.mktemp("full_disk")
    write_corpus(RUN.corpus, folder / "corpus")
    done = knowcap_train(folder / "corpus", folder / "whole")
    assert done.returncode == 0, done.stderr
    return folder


def knowcap_train(
    corpus: Path, results: Path, limit_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Train and evaluate in a process of its own, whose files may be limited in size."""
    evaluation = Evaluation(num_people=50, seed=0).model_dump_json()
    command = [sys.executable, "-m", "knowcap", "train", "--record", RUN.model_dump_json()]
    command += ["--corpus", str(corpus), "--output", str(results / "run")]
    command += ["--scratch", str(results / "scratch"), "--evaluation", evaluation]

    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, preexec_fn=limit
    )


def assert_one_line_and_whole_afterwards(
    failed: subprocess.CompletedProcess[str], reason: str, folder: Path, results: Path
) -> None:
    """Check the message of a training that failed for `reason`, then run it again."""
    if failed.returncode:  # else the training was published and only its evaluation failed
        assert failed.returncode == 2, failed.stderr
        last = failed.stderr.splitlines()[-1]
        assert re.fullmatch(rf"knowcap: /.*: {reason}.*", last), failed.stderr
        assert not (results / "run" / "DONE").exists()
    assert "Traceback" not in failed.stderr
    assert not [path for path in results.rglob(".*") if path.is_file()]


def assert_same_weights(results: Path, folder: Path) -> None:
    found, expected = (
        torch.load(each / "run" / "model.pt", weights_only=True)
        for each in (results, folder / "whole")
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)


LIMITS = (100, 4_000, 20_000, 40_000, 60_000, 90_000, 150_000)
"""Sizes of files in bytes, from less than run.json to more than model.pt."""


@pytest.mark.parametrize("limit_bytes", LIMITS[:: 1 if IS_FULL else 3])
def test_a_limited_file_size_is_one_line(folder: Path, tmp_path: Path, limit_bytes: int) -> None:
    failed = knowcap_train(folder / "corpus", tmp_path, limit_bytes)
    print(limit_bytes, failed.returncode, failed.stderr.splitlines()[-1:])
    assert_one_line_and_whole_afterwards(failed, "File too large", folder, tmp_path)
    again = knowcap_train(folder / "corpus", tmp_path)
    assert again.returncode == 0, again.stderr
    assert_same_weights(tmp_path, folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 400 KiB; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.call(mount):
        pytest.skip("mounting a file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


FREE_KIB = (0, 4, 12, 40, 80, 120, 200, 280)
"""Free space, from none to enough for all but the last files."""


@pytest.mark.parametrize("free_kib", FREE_KIB[:: 1 if IS_FULL else 3])
def test_a_full_disk_is_one_line(folder: Path, small_disk: Path, free_kib: int) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes((400 - free_kib) * KIB))
    failed = knowcap_train(folder / "corpus", small_disk)
    print(free_kib, failed.returncode, failed.stderr.splitlines()[-1:])
    assert_one_line_and_whole_afterwards(failed, "No space left on device", folder, small_disk)
    filler.unlink()
    again = knowcap_train(folder / "corpus", small_disk)
    assert again.returncode == 0, again.stderr
    assert_same_weights(small_disk, folder)


def test_a_read_only_disk_is_one_line_before_any_step(folder: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    failed = knowcap_train(folder / "corpus", small_disk)
    assert failed.returncode == 2
    (line,) = failed.stderr.splitlines()
    assert line == f"knowcap: {small_disk}/run: Read-only file system (EROFS)"


@pytest.mark.workflow
def test_a_read_only_results_folder_is_one_line_before_any_job(
    tmp_path: Path, small_disk: Path
) -> None:
    study = STUDY.replace("results: results", f"results: {small_disk}/results")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = Checkout.make(tmp_path / "checkout", study).snakemake("-c1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"{small_disk}/results: Read-only file system (EROFS)"
