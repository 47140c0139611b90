"""A study as a Workflow Run RO-Crate: its files, its metadata, and its bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from knowcap.artifacts import files, manifest
from knowcap.config.study import Study, load_study
from knowcap.errors import UserError
from knowcap.stages.crate import write_crate
from knowcap.stages.crate_metadata import Agent

REPOSITORY = Path(__file__).parents[2]

VALIDATOR = Path(__file__).parents[1] / "support" / "validate_crate.py"

REFERENCE = REPOSITORY / "results" / "reference" / "two-cores"

AUTHOR = Agent("Ada Example", "https://orcid.org/0000-0002-1825-0097")
PUBLISHER = Agent("Example University", "https://example.org/")


def write_folder(folder: Path, contents: dict[str, Any]) -> None:
    """Write JSON files and their manifest."""
    folder.mkdir(parents=True)
    for name, value in contents.items():
        files.write_json(folder / name, {"format": 1, **value})
    manifest.write(folder, list(contents))


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default study, finished: the kept results, and records of its runs without models."""
    folder = tmp_path_factory.mktemp("study")
    text = (REPOSITORY / "config" / "config.yaml").read_text()
    path = folder / "config.yaml"
    path.write_text(text.replace("results: results", f"results: {folder}/results"))
    study = load_study(path)
    published = folder / "results" / study.study
    shutil.copytree(REFERENCE, published)
    (published / "report.html").write_text("<!doctype html><title>report</title>")
    (published / "index.csv").write_text("run\n")
    table = files.read_dataset(published / "capacity.nc")
    for run in set(table["run"].values.tolist()):
        provenance = {
            "python": "3.11.7",
            "knowcap": "0.1.0",
            "libraries": {"torch": "2.13.0+cpu", "numpy": "2.4.6"},
            "start": "2026-11-30T20:23:35+00:00",
            "end": "2026-11-30T20:24:35+00:00",
        }
        contents = {"run.json": {}, "timing.json": {}, "provenance.json": provenance}
        write_folder(folder / "results" / "runs" / run, contents)
    for corpus in set(table["corpus"].values.tolist()):
        write_folder(folder / "results" / "corpora" / corpus, {"corpus.json": {}})
    return path


def crate(study_file: Path, output: Path) -> dict[str, Any]:
    """Write a crate and return the entities of its metadata by their identifiers."""
    number = write_crate(load_study(study_file), study_file, REPOSITORY, output, AUTHOR, PUBLISHER)
    with zipfile.ZipFile(output) as archive:
        assert len(archive.namelist()) == number
        graph = json.loads(archive.read("ro-crate-metadata.json"))["@graph"]
    return {entity["@id"]: entity for entity in graph}


def test_a_crate_has_the_workflow_the_study_its_results_and_records(
    study_file: Path, tmp_path: Path
) -> None:
    entities = crate(study_file, tmp_path / "crate.zip")
    with zipfile.ZipFile(tmp_path / "crate.zip") as archive:
        names = set(archive.namelist())
        assert archive.read("config/config.yaml") == study_file.read_bytes()
    kept = {"Snakefile", "rules/train.smk", "constraints.txt", "results/report.html", "README.md"}
    assert kept <= names
    assert names - {"ro-crate-metadata.json"} <= set(entities)
    runs = set(files.read_dataset(REFERENCE / "capacity.nc")["run"].values.tolist())
    assert {name.split("/")[1] for name in names if name.startswith("runs/")} == runs
    assert not any(name.endswith(".pt") for name in names)


def test_the_action_has_the_study_as_its_object_and_the_results_as_its_result(
    study_file: Path, tmp_path: Path
) -> None:
    entities = crate(study_file, tmp_path / "crate.zip")
    action = entities[entities["./"]["mentions"]["@id"]]
    assert action["@type"] == "CreateAction"
    assert action["instrument"] == entities["./"]["mainEntity"] == {"@id": "Snakefile"}
    assert action["object"] == {"@id": "config/config.yaml"}
    assert {"@id": "results/capacity.nc"} in action["result"]
    assert (action["startTime"], action["endTime"]) == (
        "2026-11-30T20:23:35+00:00",
        "2026-11-30T20:24:35+00:00",
    )
    assert entities["./"]["datePublished"] == action["endTime"]
    assert entities[AUTHOR.url]["name"] == "Ada Example"


def test_equal_studies_have_equal_bytes(study_file: Path, tmp_path: Path) -> None:
    for name in ("first.zip", "second.zip"):
        crate(study_file, tmp_path / name)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_the_crate_is_valid(study_file: Path, tmp_path: Path) -> None:
    # roc-validator needs an older rich than this environment has.
    python = os.environ.get("ROC_VALIDATOR_PYTHON")
    if not python:
        pytest.skip(
            "ROC_VALIDATOR_PYTHON: the Python of an environment with roc-validator, rocrate"
        )
    crate(study_file, tmp_path / "crate.zip")
    command = [python, VALIDATOR, tmp_path / "crate.zip", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The workflow is a file of the crate, so it has neither an absolute URI nor a page.
    checks = {" ".join(line.split()[:2]) for line in done.stdout.splitlines()}
    assert checks <= {f"RECOMMENDED process-run-crate-0.5_{each}" for each in ("3.2", "5.1")}


def edited(study_file: Path, tmp_path: Path) -> Study:
    """Return the study with a copy of its results."""
    study = load_study(study_file)
    shutil.copytree(study.results, tmp_path / "results")
    return study.model_copy(update={"results": str(tmp_path / "results")})


def test_an_unfinished_study_is_refused(study_file: Path, tmp_path: Path) -> None:
    study = edited(study_file, tmp_path)
    (tmp_path / "results" / study.study / "laws.nc").unlink()
    with pytest.raises(UserError, match="not a finished study; run snakemake first"):
        write_crate(study, study_file, REPOSITORY, tmp_path / "crate.zip", AUTHOR)
    assert not (tmp_path / "crate.zip").exists()


def test_a_damaged_record_is_refused(study_file: Path, tmp_path: Path) -> None:
    study = edited(study_file, tmp_path)
    record = next((tmp_path / "results" / "runs").glob("*/run.json"))
    record.write_text('{"format": 1, "record": 2}\n')
    with pytest.raises(UserError, match=r"run\.json: damaged"):
        write_crate(study, study_file, REPOSITORY, tmp_path / "crate.zip", AUTHOR)


def test_a_folder_without_the_workflow_is_refused(study_file: Path, tmp_path: Path) -> None:
    study = load_study(study_file)
    with pytest.raises(UserError, match="Snakefile: missing; run this command in the checkout"):
        write_crate(study, study_file, tmp_path, tmp_path / "crate.zip", AUTHOR)
