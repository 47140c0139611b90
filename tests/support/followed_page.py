"""A page of the documentation, followed to the letter in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
COPIED = ("Snakefile", "workflow", "rules", "src", "tests", "config", "pyproject.toml")


class FollowedPage:
    """Applies the diffs of a page to a copy of the repository, and runs its commands in order.

    Parameters
    ----------
    name
        Name of the page in ``docs``.
    folder
        Folder of the copy.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.text = (REPOSITORY / "docs" / name).read_text()
        self.folder = folder
        folder.mkdir(parents=True)
        for path in COPIED:
            source, target = REPOSITORY / path, folder / path
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (folder / "bin").mkdir()
        for command, module in (
            ("python", ""),
            ("knowcap", " -m knowcap"),
            ("snakemake", " -m snakemake"),
        ):
            script = folder / "bin" / command
            script.write_text(f'#!/bin/sh\nexec {sys.executable}{module} "$@"\n')
            script.chmod(0o755)

    def follow(self) -> str:
        """Apply all diffs and run all commands in the order of the page; return what they print."""
        printed = []
        for language, block in re.findall(r"```(diff|sh)\n(.*?)```", self.text, re.DOTALL):
            printed.append(self.apply(block) if language == "diff" else self.run(block))
        return "".join(printed)

    def apply(self, diff: str) -> str:
        """Apply a diff."""
        # Without a repository, git applies to the files of the folder.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder.parent)}
        return self._check(["git", "apply", "--verbose", "-"], environment, diff)

    def run(self, commands: str) -> str:
        """Run lines of a shell."""
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
        }
        return self._check(["bash", "-e", "-c", commands], environment)

    def _check(self, command: list[str], environment: dict[str, str], given: str = "") -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command[-1]}\n{given}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr
