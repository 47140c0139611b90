"""A study in slices: each gets on, the last one is done, and nothing is made twice."""

from pathlib import Path

import pytest

from knowcap.artifacts import files, identity
from knowcap.config.study import Study
from knowcap.slices import work
from tests.support.tiny import tiny_run


@pytest.fixture
def study(tmp_path: Path) -> Study:
    runs = [tiny_run(), tiny_run(optimization__exposures=10)]
    experiment = {"laws": [1], "scale": "tiny", "precisions": ["trained", "int8"], "runs": runs}
    return Study.model_validate(
        {
            "study": "sliced",
            "results": str(tmp_path / "results"),
            "evaluation": {"num_people": 20, "seed": 0},
            "experiments": {"only": experiment},
        }
    )


def test_slices_go_on_until_all_is_measured(study, tmp_path):
    folder = tmp_path / "slices"
    first = work(study, folder, budget_s=0)
    assert (first.num_measured, first.num_measurements) == (0, 4)
    assert not first.laws.exists()
    scratch = Path(study.results) / "scratch" / identity.run_name(study.runs()[0])
    assert list((scratch / "checkpoints").glob("[0-9]*.pt"))
    last = work(study, folder, budget_s=1e6)
    assert last.num_measured == 4
    assert "1. Base law" in last.laws.read_text()
    table = files.read_dataset(folder / "capacity.nc")
    assert table.sizes["measurement"] == 4
    assert set(table["precision"].values) == {"trained", "int8"}
    trained = files.read_json(
        Path(study.results) / "runs" / identity.run_name(study.runs()[0]) / "timing.json"
    )
    assert trained["num_resumed"] == 1


def test_what_is_measured_is_not_made_again(study, tmp_path):
    work(study, tmp_path / "slices", budget_s=1e6)
    losses = [identity.losses_path(study, *question) for question in study.measurements()]
    before = [path.stat().st_mtime_ns for path in losses]
    work(study, tmp_path / "slices", budget_s=1e6)
    assert [path.stat().st_mtime_ns for path in losses] == before
