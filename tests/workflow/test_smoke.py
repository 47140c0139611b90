"""The whole workflow on a small study: its results, and what a second start does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import xarray as xr

from tests.workflow.conftest import REPOSITORY, Checkout

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the smoke study has run."""
    study = (REPOSITORY / "config" / "smoke.yaml").read_text()
    checkout = Checkout.make(tmp_path_factory.mktemp("smoke"), study)
    done = checkout.snakemake("-c2", "--scheduler", "greedy")
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


def results(smoke: Checkout) -> Path:
    """The folder of the study's results."""
    return smoke.folder / "results" / "smoke"


def test_the_results_of_a_study_are_in_one_folder(smoke: Checkout) -> None:
    visible = {path.name for path in results(smoke).iterdir() if path.name[0] != "."}
    assert visible == {"capacity.nc", "index.csv", "laws.nc", "laws.md", "figures", "report.html"}


def test_nothing_is_left_to_do(smoke: Checkout) -> None:
    assert smoke.planned() == {}


def test_nothing_is_left_to_do_without_snakemake_s_records(smoke: Checkout, tmp_path: Path) -> None:
    shutil.move(smoke.folder / ".snakemake", tmp_path)
    assert smoke.planned() == {}
    shutil.rmtree(smoke.folder / ".snakemake", ignore_errors=True)
    shutil.move(tmp_path / ".snakemake", smoke.folder)


def test_every_measurement_is_in_the_table(smoke: Checkout) -> None:
    with xr.open_dataset(results(smoke) / "capacity.nc", engine="h5netcdf") as table:
        assert table.sizes["measurement"] == len(list(smoke.folder.glob("results/runs/*/*/*.nc")))
        assert bool(table["bits"].sel(scoring="plain").notnull().all())


def test_losses_are_those_that_trainings_evaluated(smoke: Checkout) -> None:
    logs = list(smoke.folder.glob("results/logs/evaluate/*/*.log"))
    assert logs
    assert not any(log.read_text() for log in logs)
    assert not list(smoke.folder.glob("results/scratch/*/evaluations/*"))


def test_a_lost_measurement_is_the_same_when_made_again(smoke: Checkout) -> None:
    losses = next(smoke.folder.glob("results/runs/*/*/losses.nc"))
    with xr.load_dataset(losses, engine="h5netcdf") as before:
        losses.unlink()
        done = smoke.snakemake("-c2", "all", losses.relative_to(smoke.folder).as_posix())
        assert done.returncode == 0, done.stdout + done.stderr
        with xr.load_dataset(losses, engine="h5netcdf") as after:
            assert after.identical(before)
    run, measurement = losses.parents[1].name, losses.parent.name
    log = smoke.folder / "results" / "logs" / "evaluate" / run / f"{measurement}.log"
    assert "evaluated" in log.read_text()


def test_no_model_stores_more_than_the_corpus_has(smoke: Checkout) -> None:
    with xr.open_dataset(results(smoke) / "capacity.nc", engine="h5netcdf") as table:
        # The bound holds in expectation; a hundredth is more than any rounding.
        assert bool((table["bits"] <= 1.01 * table["max_bits"]).all())


def test_models_with_more_exposures_store_more(smoke: Checkout) -> None:
    with xr.open_dataset(results(smoke) / "capacity.nc", engine="h5netcdf") as table:
        same = (table["num_people"] == 24) & (table["model"] == "GPT2-2-2x8")
        bits = table["bits"].sel(scoring="plain").mean("replicate")
        many = bits.where(same & (table["exposures"] == 100), drop=True)
        few = bits.where(same & (table["exposures"] == 10), drop=True)
        assert float(many.max()) > 1.5 * float(few.max())


def test_the_report_loads_no_other_file(smoke: Checkout) -> None:
    page = (results(smoke) / "report.html").read_text()
    assert "<svg" in page or "data:image/svg" in page
    for reference in ('src="http', 'href="//', "@import", "<link"):
        assert reference not in page


def test_a_run_has_its_provenance(smoke: Checkout) -> None:
    for path in smoke.folder.glob("results/runs/*/provenance.json"):
        made = json.loads(path.read_text())
        assert made["libraries"]["megatron-core"]
        assert len(made["code_digest"]) == 12


def test_partial_results_are_made_of_what_exists(smoke: Checkout, tmp_path: Path) -> None:
    published = {path: path.stat().st_mtime_ns for path in results(smoke).iterdir()}
    losses = next(smoke.folder.glob("results/runs/*/*/losses.nc"))
    shutil.move(losses, tmp_path)
    done = smoke.snakemake("-c1", "partial")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 24 measurements are missing: " in done.stdout
    assert not losses.exists()
    shutil.move(tmp_path / losses.name, losses)
    partial = results(smoke) / "partial"
    assert {path.name for path in partial.iterdir()} == {path.name for path in published} - {
        path.name for path in published if path.name[0] == "."
    }
    with xr.open_dataset(partial / "capacity.nc", engine="h5netcdf") as table:
        assert table.sizes["measurement"] == 23
    assert {path: path.stat().st_mtime_ns for path in published} == published
    shutil.rmtree(partial)
    assert smoke.planned() == {}


def test_snakemake_s_own_report_works(smoke: Checkout) -> None:
    done = smoke.snakemake("--report", "report.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (smoke.folder / "report.zip").stat().st_size > 100_000


def test_an_edited_figure_is_drawn_again_and_nothing_is_trained(smoke: Checkout) -> None:
    page = results(smoke) / "report.html"
    old, new = (
        "from __future__ import annotations\n",
        "from __future__ import annotations\n\nX = 1\n",
    )
    before = page.stat().st_mtime_ns
    smoke.edit("src/knowcap/capacity/figures.py", old, new)
    done = smoke.snakemake("-c2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(smoke.rules(done.stdout + done.stderr)) == {"figures", "report", "publish"}
    assert page.stat().st_mtime_ns > before
    smoke.edit("src/knowcap/capacity/figures.py", new, old)
    assert smoke.planned() == {"publish": 1}


def test_a_truncated_model_is_refused_in_one_line(smoke: Checkout) -> None:
    losses = next(smoke.folder.glob("results/runs/*-N48-E10-*/*/losses.nc"))
    model = losses.parents[1] / "model.pt"
    model.write_bytes(model.read_bytes()[:1000])
    losses.unlink()
    done = smoke.snakemake("-c2")
    assert done.returncode == 1
    (log,) = smoke.folder.glob(f"results/logs/evaluate/{losses.parents[1].name}/*.log")
    assert "model.pt: damaged" in log.read_text().splitlines()[-1]
    assert not losses.exists()
