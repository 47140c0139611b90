"""Figures of studies without laws: models are grouped by whatever the grid varies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.figures import write_figures
from knowcap.capacity.laws import write_laws
from knowcap.capacity.model_groups import group_models
from knowcap.capacity.table import ExperimentLabel
from knowcap.capacity.varied_settings import varied_settings
from knowcap.config import Run
from tests.capacity.simulated_results import SimulatedResults
from tests.support.tiny import tiny_run


def run(**changes: Any) -> Run:
    """A run with other values of dotted fields, with two underscores for the dot."""
    record = tiny_run().model_dump(mode="json")
    for name, value in changes.items():
        section, _, field = name.partition("__")
        if field:
            record[section][field] = value
    record["corpus"]["knowledge"] |= {
        name: value for name, value in changes.items() if "__" not in name
    }
    return Run.model_validate(record)


def models(*runs: Run, precisions: tuple[str, ...] = ()) -> xr.Dataset:
    """The variables that models are grouped by."""
    fields, values = varied_settings(runs)
    return xr.Dataset(
        {
            "setting": (("measurement", "field"), values),
            "precision": ("measurement", list(precisions) or ["trained"] * len(runs)),
            "exposures": ("measurement", [each.optimization.exposures for each in runs]),
            "knowledge": ("measurement", [f"bioD({i.corpus.knowledge.num_people})" for i in runs]),
            "kind": ("measurement", ["bioD"] * len(runs)),
            "num_people": ("measurement", [each.corpus.knowledge.num_people for each in runs]),
        },
        coords={"field": np.array(fields, dtype=object)},
    )


def test_fields_that_differ_are_found_and_seeds_are_not() -> None:
    runs = [
        run(),
        run(replicates__seeds=[7, 8], optimization__weight_decay=0.5),
        run(num_people=31, optimization__weight_decay=0.5),
    ]
    fields, values = varied_settings(runs)
    assert fields == ["corpus.knowledge.num_people", "optimization.weight_decay"]
    assert values[:, 1].tolist()[1:] == ["0.5", "0.5"]


def test_one_setting_has_colours_and_the_others_have_markers() -> None:
    grid = [(n, decay) for n in (20, 30) for decay in (0.1, 0.2)]
    runs = [run(num_people=n, optimization__weight_decay=decay) for n, decay in grid]
    grouped = group_models(models(*runs))
    assert grouped.labels.tolist() == [
        f"N = {n}, weight_decay = {decay}" for n, decay in grid
    ]  # fmt: skip
    styles = [grouped.styles[label] for label in grouped.labels]
    assert [styles[i][0] == styles[0][0] for i in range(4)] == [True, True, False, False]
    assert [styles[i][1] == styles[0][1] for i in range(4)] == [True, False, True, False]
    assert grouped.caption == ""


def test_a_setting_that_another_determines_is_named_in_the_caption() -> None:
    grid = [(20, 4), (30, 8), (40, 8)]
    runs = [run(num_people=n, optimization__global_batch_size=size) for n, size in grid]
    grouped = group_models(models(*runs))
    assert grouped.labels.tolist() == ["N = 20", "N = 30", "N = 40"]
    assert grouped.caption == "Also varied, together with the settings shown: global_batch_size."


def test_a_learning_rate_of_each_size_is_no_group_but_a_dataset_of_each_size_is() -> None:
    sizes = [
        run(architecture__num_layers=n, replicates__lr=[n * 1e-3], num_people=20 + n)
        for n in (1, 2)
    ]
    assert group_models(models(*sizes)).labels.tolist() == ["N = 21", "N = 22"]


def test_exposures_are_panels_unless_there_are_many() -> None:
    few = [run(optimization__exposures=e) for e in (10, 20)]
    grouped = group_models(models(*few))
    assert (grouped.panels, set(grouped.labels)) == ([20, 10], {"N = 50"})
    many = group_models(models(*(run(optimization__exposures=e) for e in range(10, 16))))
    assert many.panels is None
    assert many.labels[0] == "E = 10"


def test_precisions_are_a_setting() -> None:
    grouped = group_models(models(run(), run(), precisions=("trained", "int4")))
    assert grouped.labels.tolist() == ["as trained", "int4, GPTQ"]


@pytest.fixture
def own(simulation: SimulatedResults) -> Path:
    """Files of a study without laws."""
    for num_people in (1000, 2000):
        for size in ((2, 2), (4, 2)):
            simulation.add([0.02, 0.03], num_people=num_people, size=size)
    table = simulation.table(base=ExperimentLabel(laws=(), scale="my question"))
    write_laws(table, table.with_name("laws.nc"), table.with_name("laws.md"))
    write_figures(table, table.with_name("laws.nc"), table.with_name("figures"))
    return table.parent


def test_a_study_without_laws_has_a_figure_of_what_varies(own: Path) -> None:
    (figure,) = files.read_json(own / "figures" / "figures.json")["figures"]
    assert figure["name"] == "models"
    assert figure["title"] == "Stored knowledge against model size: my question"
    laws = files.read_dataset(own / "laws.nc")
    assert set(laws["judged_verdict"].values) == {"not run"}
