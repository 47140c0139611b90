"""Studies with diverged replicates are judged, drawn and reported."""

from __future__ import annotations

import pytest

from knowcap.artifacts import files
from knowcap.capacity.figures import write_figures
from knowcap.capacity.laws import write_laws
from knowcap.capacity.report import write_report
from tests.capacity.simulated_results import SimulatedResults
from tests.capacity.test_table import DIVERGED, with_nan


@pytest.mark.parametrize("is_only_one", [True, False])
def test_a_study_with_a_model_of_which_all_replicates_diverged_has_a_report(
    simulation: SimulatedResults, is_only_one: bool
) -> None:
    if not is_only_one:
        simulation.add([0.05, 0.06], num_people=2000)
    simulation.add([0.05], seeds=[1], diverged=[DIVERGED])
    with_nan(simulation, 0)
    table, folder = simulation.table(), simulation.folder
    laws, page = table.with_name("laws.nc"), folder / "report.html"
    write_laws(table, laws, laws.with_suffix(".md"))
    write_figures(table, laws, folder / "figures")
    write_report(table, laws, folder / "figures", {}, page)
    total = 1 if is_only_one else 3
    text = page.read_text()
    assert f"1 of {total} trained replicates diverged and are part of no result." in text
    assert "step 7; likely causes: lr 1000" in text
    used = files.read_dataset(laws)["num_replicates"].values
    assert used.max(initial=0) <= total - 1
