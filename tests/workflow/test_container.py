"""Jobs in a container: the recipe, and the command that a job runs in it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from knowcap.artifacts.identity import corpus_name
from knowcap.config.study import load_study
from tests.workflow.conftest import REPOSITORY, Checkout

RECIPE = (REPOSITORY / "container" / "knowcap.def").read_text()

APPTAINER = """\
#!{bash}
# Stands for apptainer: runs the command of a job in a folder of programs instead of an image.
if [ "$1" = --version ]; then echo "apptainer version 1.3.0"; exit; fi
echo "$@" >> {calls}
export PATH={programs}
exec {bash} "${{@: -2}}"
"""


def section(name: str) -> str:
    """Return the text of a section of the recipe."""
    return re.split(r"^%\w+\n", RECIPE.split(f"%{name}\n")[1], flags=re.MULTILINE)[0]


def test_the_recipe_copies_files_that_exist_and_make_a_package() -> None:
    sources = [line.split()[0] for line in section("files").strip().splitlines()]
    assert all((REPOSITORY / source).is_file() for source in sources)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {"pyproject.toml", "constraints.txt", "src/knowcap/__init__.py"}  # the version
    assert needed == set(sources)


@pytest.mark.parametrize("name", ["post", "environment", "test"])
def test_the_commands_of_the_recipe_are_shell(name: str) -> None:
    assert section(name).strip()
    subprocess.run(["sh", "-n"], input=section(name), text=True, check=True)


def test_container_and_conda_have_the_same_python() -> None:
    version = re.search(r"^From: python:(3\.\d+)-", RECIPE, flags=re.MULTILINE)
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert version is not None
    assert f"python={version[1]}" in environment["dependencies"]


def test_the_conda_environment_is_the_locked_one() -> None:
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert environment["dependencies"][-1] == {
        "pip": ["--constraint constraints.txt", "--editable .[dev]"]
    }


def corpus_target(checkout: Checkout) -> str:
    study = load_study(checkout.folder / "config" / "config.yaml")
    return f"results/corpora/{corpus_name(study.runs()[0].corpus)}/corpus.json"


@pytest.mark.workflow
def test_a_missing_image_is_one_line_with_the_command_that_builds_it(checkout: Checkout) -> None:
    done = checkout.snakemake("-n", "--software-deployment-method", "apptainer")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "container/knowcap.sif: missing; build it once: "
        "apptainer build container/knowcap.sif container/knowcap.def"
    )


@pytest.mark.workflow
def test_jobs_run_the_python_of_the_image_with_the_package_of_the_checkout(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("programs")
    programs, calls = folder / "image", folder / "calls"
    programs.mkdir()
    for name in ("bash", "env", "rm", "mv", "mkdir", "cc"):
        (programs / name).symlink_to(str(shutil.which(name)))
    python = programs / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    apptainer = folder / "apptainer"
    bash = shutil.which("bash")
    apptainer.write_text(APPTAINER.format(bash=bash, calls=calls, programs=programs))
    apptainer.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    checkout.write("container/knowcap.sif", "an image")
    target = corpus_target(checkout)
    done = checkout.snakemake("-c1", "--software-deployment-method", "apptainer", "--", target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (checkout.folder / target).exists()
    called = calls.read_text()
    assert "container/knowcap.sif" in called
    assert f"PYTHONPATH={checkout.folder}/src python -m knowcap corpus" in called
    assert not Path(checkout.folder / target).is_symlink()
