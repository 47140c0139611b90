"""Two users with one results folder: each uses what the other has made, under umask 022."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowcap.artifacts.identity import measurement_name, run_name
from knowcap.config.study import load_study
from tests.conftest import STUDY
from tests.workflow.conftest import Checkout

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(
        os.getuid() != 0 or not shutil.which("setpriv"),
        reason="needs root and setpriv, to act as two users",
    ),
]

ALICE, BOB, LAB = 54_321, 54_322, 54_300
"""Numbers of two users, each with a group of its own, and of the group of both."""


class User:
    """A user with a checkout of its own."""

    def __init__(self, number: int, folder: Path, results: Path) -> None:
        study = STUDY.replace("results: results", f"results: {results}")
        self.number = number
        self.checkout = Checkout.make(folder, study)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, number, number)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, with umask 022.

        It may read all files, as the Python of this test can be in a folder of root.
        """
        folder, number = self.checkout.folder, self.number
        home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / ".cache"), "USER": str(number)}
        ids = (f"--reuid={number}", f"--regid={number}", f"--groups={number},{LAB}")
        read_all = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        return subprocess.run(
            ["setpriv", *ids, *read_all, "--", *command],
            umask=0o022,
            cwd=folder,
            env={**os.environ, **home, "PYTHONPATH": str(folder / "src")},
            capture_output=True,
            text=True,
            check=False,
        )

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake as this user."""
        return self.run(sys.executable, "-m", "snakemake", "-c1", *arguments)

    def make(self, *targets: Path) -> None:
        """Make files as this user, which must succeed."""
        done = self.snakemake(*map(str, targets))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can read, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="knowcap-two-users-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def users(folder: Path) -> tuple[User, User]:
    """Two users and an empty results folder of the first one, which their group can write to."""
    results = folder / "results"
    results.mkdir()
    os.chown(results, ALICE, LAB)
    results.chmod(0o2775)
    return User(ALICE, folder / "alice", results), User(BOB, folder / "bob", results)


def done_and_losses(results: Path, index: int) -> tuple[Path, Path]:
    """Return the last file of a run and the losses of its measurement."""
    study = load_study(results.parent / "alice" / "config" / "config.yaml")
    run = study.runs()[index]
    folder = results / "runs" / run_name(run)
    losses = folder / measurement_name(run, "trained", study.evaluation) / "losses.nc"
    return folder / "DONE", losses


def test_two_users_share_a_results_folder(users: tuple[User, User], folder: Path) -> None:
    alice, bob = users
    results = folder / "results"
    first, losses = done_and_losses(results, 0)
    second, _ = done_and_losses(results, 1)
    alice.make(first)
    made = first.stat()
    bob.make(losses, second)  # moved from a folder of alice to another one, and trained
    assert first.stat().st_ino == made.st_ino
    assert (made.st_uid, second.stat().st_uid) == (ALICE, BOB)
    alice.make(losses, second, done_and_losses(results, 1)[1])
    for path in results.rglob("*"):
        assert path.stat().st_gid == LAB, path
        shared = stat.S_IRGRP | stat.S_IWGRP
        assert path.stat().st_mode & shared == shared, stat.filemode(path.stat().st_mode)


def test_a_folder_that_is_not_shared_is_one_line_before_any_job(
    users: tuple[User, User], folder: Path
) -> None:
    alice, bob = users
    results = folder / "results"
    results.chmod(0o755)  # as mkdir makes it
    first, _ = done_and_losses(results, 0)
    second, _ = done_and_losses(results, 1)
    alice.make(first)
    results.chmod(0o2775)
    done = bob.snakemake(str(second))
    assert done.returncode == 2
    folders = {str(results / name) for name in ("corpora", "logs/train", "runs", "scratch")}
    line = done.stderr.splitlines()[-1]
    assert line.split(", and ")[0] in folders
    owner = f"{BOB} cannot write there (owner {ALICE}, group {ALICE}, drwxr-xr-x); to share it, "
    assert owner in line
    assert f"chmod -R g+wX {results} && " in line
    assert not second.exists()

    command = line.partition("runs: ")[2]
    shared = alice.run("bash", "-c", f"chgrp -R {LAB} {results} && {command}")
    assert shared.returncode == 0, shared.stderr
    bob.make(second)


def test_a_folder_that_can_only_be_read_is_a_lower_store(
    users: tuple[User, User], folder: Path
) -> None:
    alice, _ = users
    lower = folder / "results"
    lower.chmod(0o755)
    first, losses = done_and_losses(lower, 0)
    second, _ = done_and_losses(lower, 1)
    alice.make(first)
    own = folder / "own"
    own.mkdir()
    os.chown(own, BOB, BOB)
    bob = User(BOB, folder / "carol", own)
    # The command of config/README.md.
    linked = bob.run("cp", "-rsn", f"{lower}/corpora", f"{lower}/runs", str(own))
    assert linked.returncode == 0, linked.stderr
    before = {path: path.stat().st_mtime_ns for path in lower.rglob("*")}
    here = [own / path.relative_to(lower) for path in (first, losses, second)]
    bob.make(*here)
    assert [path.is_symlink() for path in here] == [True, False, False]
    assert {path: path.stat().st_mtime_ns for path in lower.rglob("*")} == before
