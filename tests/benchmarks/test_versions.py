"""The speed of this version beside that of an older one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from knowcap.artifacts.files import read_json
from knowcap.errors import UserError
from knowcap_benchmarks import versions

REPOSITORY = Path(__file__).parents[2]


def test_two_versions_are_measured_each_with_its_own_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(repository)], check=True)
    worker = repository / "src" / "knowcap_benchmarks" / "worker.py"
    worker.write_text(worker.read_text().replace('"num_steps": len(', '"num_steps": -len('))
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "commit", "-qam", "changed"], check=True)
    monkeypatch.setattr(versions, "SHAPES", ((1, 64, 2, 16),))
    monkeypatch.setattr(versions, "__file__", str(worker))

    result = versions.compare_versions("HEAD^", "knowcap", 1, rounds=1, seconds=0.1)
    (shape,) = result["shapes"]
    (old,), (new,) = (shape["rounds"][name] for name in (versions.OLD, versions.NEW))
    assert old["num_steps"] > 0 > new["num_steps"]
    assert old["num_params"] == new["num_params"]
    commits = subprocess.run(
        [*git, "rev-parse", "HEAD^"], check=True, capture_output=True, text=True
    )
    assert result["old"] == commits.stdout.strip()
    header, _, row = versions.versions_table(result).splitlines()
    assert "times before" in header
    assert f"{new['tokens_per_s'] / old['tokens_per_s']:.2f} (" in row


def test_an_unknown_revision_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^no-such: no revision of "):
        versions.compare_versions("no-such", "knowcap", 1, rounds=1, seconds=0.1)


def test_the_page_has_the_table_of_the_kept_measurements() -> None:
    kept = read_json(REPOSITORY / "results" / "reference" / "two-cores" / "versions.json")
    page = (REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8")
    assert versions.versions_table(kept) in page
