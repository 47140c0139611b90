"""Tables, laws, figures and reports of studies of which some measurements do not exist yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowcap.artifacts import files, identity, manifest
from knowcap.capacity.figures import write_figures
from knowcap.capacity.laws import write_laws
from knowcap.capacity.report import write_report
from knowcap.capacity.table import write_study_table
from knowcap.config import Precision, Run
from knowcap.config.study import Study, load_study
from knowcap.errors import UserError
from tests.capacity.simulated_results import biod_facts, oracle, run_file

SMOKE = Path(__file__).parents[2] / "config" / "smoke.yaml"

SENTENCE = (
    "21 of 24 measurements are missing: 10 of 12 of bioD-often, 1 of 2 of bioD-rarely, 1 of 1 of "
    "junk, 4 of 4 of architectures, 1 of 1 of experts, 3 of 3 of bioS, 1 of 1 of bioR."
)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load_study(SMOKE).model_copy(update={"results": str(tmp_path / "results")})


def write_measurement(study: Study, run: Run, precision: Precision) -> None:
    """Write the files of a measurement of bioD where the workflow writes them."""
    knowledge = run.corpus.knowledge
    facts = biod_facts(knowledge.num_people, (4, 2, 16, 1, 16))
    pairs = run.replicates.pairs
    losses = identity.losses_path(study, run, precision)
    corpus = Path(study.results) / "corpora" / identity.corpus_name(run.corpus)
    files.write_json(corpus / "corpus.json", facts)
    manifest.write(corpus, ["corpus.json"])
    files.write_json(losses.parents[1] / "run.json", run_file(run, corpus.name, 2000))
    manifest.write(losses.parents[1], ["run.json"])
    seeds, rates = zip(*pairs, strict=True)
    num_evaluated = min(study.evaluation.num_people, knowledge.num_people)
    dataset = oracle(facts, [0.5] * len(pairs), num_evaluated=num_evaluated, seeds=seeds, lr=rates)
    attrs = {"run": losses.parents[1].name, "precision": precision}
    files.write_dataset(dataset.assign_attrs(attrs), losses)


def write_first(study: Study, experiment: str, count: int) -> None:
    """Write the first measurements of an experiment."""
    for run, precision in list(study.experiments[experiment].measurements())[:count]:
        write_measurement(study, run, precision)


def test_a_partial_table_lists_the_missing_measurements(study: Study, tmp_path: Path) -> None:
    write_first(study, "bioD-often", 2)
    write_first(study, "bioD-rarely", 1)
    paths = (tmp_path / "capacity.nc", tmp_path / "index.csv")
    assert write_study_table(study, *paths, partial=True) == SENTENCE
    table = files.read_dataset(paths[0])
    assert table.sizes["measurement"] == 3
    assert table["num_missing"].values.tolist() == [10, 1, 1, 4, 1, 3, 1]
    assert len(paths[1].read_text().splitlines()) == 1 + 6  # a header and two seeds each


def test_a_partial_study_has_laws_figures_and_a_report(study: Study, tmp_path: Path) -> None:
    write_first(study, "bioD-often", 2)
    write_first(study, "bioD-rarely", 1)
    table = tmp_path / "capacity.nc"
    write_study_table(study, table, tmp_path / "index.csv", partial=True)
    write_laws(table, tmp_path / "laws.nc", tmp_path / "laws.md")
    laws = files.read_dataset(tmp_path / "laws.nc")
    assert set(laws["judged_law"].values) == set(range(1, 13))
    for law in (2, 6, 9, 10):  # their experiments exist, their measurements do not
        assert set(laws["judged_verdict"].values[laws["judged_law"].values == law]) == {"not run"}
    write_figures(table, tmp_path / "laws.nc", tmp_path / "figures")
    write_report(table, tmp_path / "laws.nc", tmp_path / "figures", {}, tmp_path / "report.html")
    assert SENTENCE in (tmp_path / "report.html").read_text()


def test_a_complete_study_is_not_called_partial(study: Study, tmp_path: Path) -> None:
    only = {"bioD-rarely": study.experiments["bioD-rarely"]}
    study = study.model_copy(update={"experiments": only})
    write_first(study, "bioD-rarely", 2)
    tables = [tmp_path / "whole.nc", tmp_path / "partial.nc"]
    for table, partial in zip(tables, (False, True), strict=True):
        assert write_study_table(study, table, tmp_path / "index.csv", partial=partial) == ""
    assert files.read_dataset(tables[0]).identical(files.read_dataset(tables[1]))


def test_a_study_without_any_measurement_has_no_partial_table(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no measurement of study 'smoke' exists yet"):
        write_study_table(study, tmp_path / "capacity.nc", tmp_path / "index.csv", partial=True)


def test_a_missing_measurement_of_a_complete_table_is_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"DONE: missing"):
        write_study_table(study, tmp_path / "capacity.nc", tmp_path / "index.csv")


@pytest.mark.parametrize("change", ["precision", "people"])
def test_losses_of_another_precision_or_of_fewer_people_are_refused(
    study: Study, tmp_path: Path, change: str
) -> None:
    write_first(study, "bioD-often", 1)
    run, precision = next(iter(study.experiments["bioD-often"].measurements()))
    path = identity.losses_path(study, run, precision)
    losses = files.read_dataset(path)
    if change == "precision":
        losses = losses.assign_attrs(precision="int3")
    else:
        losses = losses.isel(person=slice(3))
    files.write_dataset(losses, path)
    with pytest.raises(UserError, match="but the study has"):
        write_study_table(study, tmp_path / "a.nc", tmp_path / "a.csv", partial=True)
