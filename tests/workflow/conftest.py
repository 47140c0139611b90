"""Checkouts that tests edit, and the plans of Snakemake in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.conftest import STUDY

REPOSITORY = Path(__file__).parents[2]


class Checkout:
    """A copy of the workflow and the package, with a study of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, folder: Path, study: str) -> Checkout:
        """Copy the workflow and the package of the repository to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("Snakefile", "workflow", "rules", "src"):
            source = REPOSITORY / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder / name)
        checkout = cls(folder)
        checkout.write("config/config.yaml", study)
        return checkout

    def write(self, path: str, text: str) -> None:
        """Write a file and the folders above it."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def copy(self, path: str) -> None:
        """Copy a file of the repository to the same path of the checkout."""
        self.write(path, (REPOSITORY / path).read_text())

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return (self.folder / path).read_text()

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace the first occurrence of a text in a file."""
        text = self.read(path)
        assert old in text, f"{path}: {old!r} not found"
        self.write(path, text.replace(old, new, 1))

    def edit_all(self, paths: Iterable[Path], edit: Callable[[str], str]) -> None:
        """Change the text of several files, of which at least one must differ."""
        changed = 0
        for path in paths:
            text = path.read_text()
            changed += edit(text) != text
            path.write_text(edit(text))
        assert changed, "no file was changed"

    def snakemake(
        self, *arguments: str, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in the checkout or another folder, with the package of the checkout."""
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=folder or self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder / "src")},
            capture_output=True,
            text=True,
            check=False,
        )

    def planned(self, *arguments: str, folder: Path | None = None) -> Counter[str]:
        """Count the jobs of each rule in a dry run, without the target rule."""
        done = self.snakemake("-n", *arguments, folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        counts = re.findall(r"^(\w+) +(\d+)$", done.stdout, flags=re.MULTILINE)
        return Counter({rule: int(n) for rule, n in counts if rule not in ("all", "total")})

    @staticmethod
    def rules(plan: str) -> list[str]:
        """Return the rules of the jobs of a dry run, in the order of their jobs."""
        messages = {
            "make corpus": "corpus",
            "train": "train",
            "evaluate": "evaluate",
            "write the table": "table",
            "test the laws": "laws",
            "draw the figures": "figures",
            "write the report": "report",
            "copy the results": "publish",
        }
        pattern = rf"^Job \d+: ({'|'.join(messages)})\b"
        return [messages[each] for each in re.findall(pattern, plan, flags=re.MULTILINE)]

    def finish(self) -> None:
        """Make an empty file for every planned output, as if all jobs had run."""
        done = self.snakemake("--summary")
        assert done.returncode == 0, done.stdout + done.stderr
        for line in done.stdout.splitlines()[1:]:
            path = self.folder / line.split("\t")[0]
            if path.name.startswith("figures-"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()


@pytest.fixture
def checkout(tmp_path: Path, study_text: str) -> Checkout:
    """A checkout without results."""
    return Checkout.make(tmp_path, study_text)


@pytest.fixture(scope="session")
def finished_template(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with every output, to copy and not to edit."""
    template = Checkout.make(tmp_path_factory.mktemp("finished"), STUDY)
    template.finish()
    assert template.planned() == {}
    return template


@pytest.fixture
def finished(tmp_path: Path, finished_template: Checkout) -> Checkout:
    """A checkout with every output."""
    shutil.copytree(finished_template.folder, tmp_path, dirs_exist_ok=True)
    return Checkout(tmp_path)
