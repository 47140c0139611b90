"""A checkout to edit, and what Snakemake would do in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
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
        """Copy the repository's workflow and package to a folder."""
        for name in ("Snakefile", "rules", "src"):
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
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace the one place where a file says `old`."""
        text = self.read(path)
        assert text.count(old) >= 1, f"{path} does not say {old!r}"
        self.write(path, text.replace(old, new, 1))

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake here, with this checkout's package."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src")}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def planned(self, *arguments: str) -> Counter[str]:
        """How many jobs of each rule a dry run would do, the target rule left out."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        counts = re.findall(r"^(\w+) +(\d+)$", done.stdout, flags=re.MULTILINE)
        return Counter({rule: int(n) for rule, n in counts if rule not in ("all", "total")})

    @staticmethod
    def rules(plan: str) -> list[str]:
        """Rules of the jobs of a dry run, in the order in which it names them."""
        return re.findall(r"^Job \d+: (\w+)", plan, flags=re.MULTILINE)

    def finish(self) -> None:
        """Leave a file where every planned output would be, as if all had been made."""
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
    return Checkout.make(tmp_path, study_text)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose every output is there, to be copied and not to be changed."""
    finished = Checkout.make(tmp_path_factory.mktemp("finished"), STUDY)
    finished.finish()
    assert finished.planned() == {}
    return finished


@pytest.fixture
def finished(tmp_path: Path, template: Checkout) -> Checkout:
    shutil.copytree(template.folder, tmp_path, dirs_exist_ok=True)
    return Checkout(tmp_path)
