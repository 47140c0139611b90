"""The report names the commit of the rules, and whether they changed after the trainings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from knowcap.capacity.rules_commit import rules_sentences


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with rules and a study file."""
    (tmp_path / "laws").mkdir()
    (tmp_path / "laws" / "claims.py").write_text("MARGIN = 1\n")
    (tmp_path / "study.yaml").write_text("study: tiny\n")
    git(tmp_path, "init", "-q")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a commit")
    return git(folder, "rev-parse", "HEAD")


def sentences(folder: Path, *trained: str) -> str:
    return " ".join(rules_sentences(folder / "study.yaml", trained, folder / "laws"))


def test_rules_that_are_older_than_the_trainings_did_not_change(checkout: Path) -> None:
    first = commit(checkout)
    assert sentences(checkout, first, f"{first} with changes") == (
        "Margins, primary quantities and preconditions are those of "
        f"commit {first[:10]}. The cells are those of study.yaml at commit {first[:10]}. "
        f"The models were trained at commit {first[:10]}; the rules did not change since and the "
        "study file did not change since."
    )


def test_rules_that_changed_after_the_trainings_are_named(checkout: Path) -> None:
    first = commit(checkout)
    (checkout / "laws" / "claims.py").write_text("MARGIN = 2\n")
    assert f"{first[:10]}, with changes that are not committed" in sentences(checkout, first)
    second = commit(checkout)
    text = sentences(checkout, first)
    assert f"those of commit {second[:10]}." in text
    assert "the rules changed since and the study file did not change since" in text


def test_a_study_file_that_is_not_committed_is_named(checkout: Path) -> None:
    first = commit(checkout)
    (checkout / "own.yaml").write_text("")
    text = " ".join(rules_sentences(checkout / "own.yaml", [first], checkout / "laws"))
    assert f"own.yaml at commit {first[:10]}, with changes that are not committed" in text


def test_unknown_commits_are_stated(checkout: Path) -> None:
    commit(checkout)
    assert "The commit of the trainings is unknown." in sentences(checkout, "")
    assert "whether the rules changed since is unknown" in sentences(checkout, "0" * 40)


def test_code_outside_a_checkout_is_stated(tmp_path: Path) -> None:
    (tmp_path / "laws").mkdir()
    assert sentences(tmp_path) == (
        "The code is not in a git checkout, so no commit shows when its rules were fixed."
    )
