from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.diverged_replicates import diverged_replicates, diverged_sentence
from knowcap.capacity.table import ExperimentLabel, replicates
from knowcap.capacity.table_columns import BIOD_SHAPE, NO_REPLICATE
from knowcap.config.architecture_presets import ARCHITECTURE_PRESETS
from knowcap.errors import UserError
from tests.capacity.simulated_results import SimulatedResults, gpt2_params


@pytest.fixture
def table(simulation: SimulatedResults) -> xr.Dataset:
    """Two runs with different corpora, replicates and experiments."""
    simulation.add([1.5, 1.6, 1.7], num_people=100_000, experiments=["base"])
    simulation.add(
        [0.2, 0.3], kind="bioD", exposures=100, size=(1, 3), kv_channels=8,
        experiments=["rare", "both"], lr=[1e-3, 2e-3], seeds=[2**62 + 1], provenance=False,
    )  # fmt: skip
    path = simulation.table(
        base=ExperimentLabel(laws=(1,), scale="large"),
        rare=ExperimentLabel(laws=(4,), scale="small"),
        both=ExperimentLabel(laws=(1, 4), scale="small"),
    )
    return files.read_dataset(path)


def test_the_table_has_the_capacity_ratios_of_the_runs(table: xr.Dataset) -> None:
    ratios = table["capacity_ratio"].sel(scoring="plain")
    np.testing.assert_allclose(ratios, [[1.5, 1.6, 1.7], [0.2, 0.3, np.nan]], rtol=1e-12)


def test_missing_replicates_are_padded_with_nan_and_a_special_seed(table: xr.Dataset) -> None:
    second = table.isel(measurement=1)
    assert second["seed"].values.tolist() == [2**62 + 1, 2**62 + 1, NO_REPLICATE]
    assert second["bits"].isel(replicate=2).isnull().all()
    assert second["lr"].isel(replicate=2).isnull()


def test_attributes_of_other_corpora_are_nan(table: xr.Dataset) -> None:
    by_attribute = table["bits_by_attribute"].sel(scoring="plain", replicate=0)
    assert by_attribute["attribute"].values.tolist() == [
        "birth_date", "birth_city", "university", "major", "employer", "gender",
        "ID 1", "ID 2", "ID 3", "ID 4",
    ]  # fmt: skip
    assert by_attribute.count("attribute").values.tolist() == [6, 4]


def test_the_table_describes_the_runs(table: xr.Dataset) -> None:
    second = table.isel(measurement=1)
    expected = {
        "knowledge": "bioD(1000, 4, 2, 256, 1, 256)",
        "kind": "bioD",
        "model": "GPT2-1-3x8",
        "num_layers": 1,
        "hidden_size": 24,
        "exposures": 100,
        "num_params": gpt2_params(1, 24),
        "train_iters": 4000,
        "precision": "trained",
    }
    assert {name: second[name].item() for name in expected} == expected


def test_columns_have_defaults_for_runs_without_junk_experts_or_versions(table: xr.Dataset) -> None:
    first = table.isel(measurement=0)
    expected = {
        "useful_share": 1.0, "num_junk_people": 0, "domain_token": False, "num_versions": 0,
        "rewriter": "",
        "tokenizer": "GPT2", "family": "GPT2", "tied": True, "gated": False, "activation": "gelu",
        "normalization": "LayerNorm", "add_bias": True, "num_moe_experts": 0,
        "num_params_active": first["num_params"].item(),
    }  # fmt: skip
    assert {name: first[name].item() for name in expected} == expected
    assert first["bits_per_param"].isnull()


def test_the_shape_of_biod_is_numeric(table: xr.Dataset) -> None:
    shapes = [table[name].values for name in BIOD_SHAPE]
    np.testing.assert_array_equal(np.array(shapes).T, [[np.nan] * 5, [4, 2, 256, 1, 256]])


def test_bits_per_parameter_and_quantised_share_are_columns(simulation: SimulatedResults) -> None:
    simulation.add_precision(simulation.add([0.05]), "int4", bits=9.5, share=0.5)
    table = files.read_dataset(simulation.table())
    assert table["precision"].values.tolist() == ["trained", "int4"]
    np.testing.assert_array_equal(table["bits_per_param"], [np.nan, 9.5])
    np.testing.assert_array_equal(table["share_quantised"], [0, 0.5])


@pytest.mark.parametrize("as_variable", [False, True])
def test_bits_per_parameter_are_read_from_variables_and_attributes(
    simulation: SimulatedResults, as_variable: bool
) -> None:
    measurement = simulation.add([0.05])
    losses = files.read_dataset(measurement.losses)
    if as_variable:
        losses["effective_bits_per_param"] = ("replicate", [5.5])
    else:
        losses.attrs["effective_bits_per_param"] = 5.5
    files.write_dataset(losses, measurement.losses)
    assert files.read_dataset(simulation.table())["bits_per_param"].values == [5.5]


def test_an_unknown_cost_is_nan_or_empty(table: xr.Dataset) -> None:
    np.testing.assert_array_equal(table["train_s"], [61.5, np.nan])
    assert table["device"].values.tolist() == ["Processor 9000", ""]
    assert table["versions"].values.tolist() == ["Python 3.11.7, torch 2.13.0", ""]
    assert table["commit"].values.tolist() == ["0123abcdef with changes", ""]


def test_experiments_have_members_laws_and_scales(table: xr.Dataset) -> None:
    assert table["member"].sel(experiment="both").values.tolist() == [False, True]
    assert table["informs"].sel(experiment="rare", law=4)
    assert not table["informs"].sel(experiment="base", law=4)
    assert table["scale"].sel(experiment="both") == "small"


def test_every_variable_has_a_long_name_and_every_number_a_unit(table: xr.Dataset) -> None:
    for name, variable in table.data_vars.items():
        assert "long_name" in variable.attrs, name
        if variable.dtype.kind in "if" and not str(name).endswith("seed"):
            assert "units" in variable.attrs, name


def test_the_index_has_a_row_for_each_replicate(
    simulation: SimulatedResults, table: xr.Dataset
) -> None:
    rows = replicates(table)
    assert rows["capacity_ratio"].round(9).tolist() == [1.5, 1.6, 1.7, 0.2, 0.3]
    assert rows["seed"].tolist() == [0, 1, 2, 2**62 + 1, 2**62 + 1]
    index = pd.read_csv(simulation.folder / "study" / "index.csv")
    assert index["experiments"].tolist() == ["base"] * 3 + ["rare both"] * 2
    np.testing.assert_allclose(index["capacity_ratio_strict"], rows["capacity_ratio_strict"])


DIVERGED = {"seed": 1, "lr": 1e-3, "iteration": 7, "likely_causes": "lr 1000"}


def with_nan(simulation: SimulatedResults, replicate: int) -> None:
    """Replace the losses of a replicate of the last measurement by NaN."""
    path = simulation.measurements[-1].losses
    losses = files.read_dataset(path)
    is_kept = xr.DataArray(np.arange(losses.sizes["replicate"]) != replicate, dims="replicate")
    files.write_dataset(losses.where(is_kept), path)


def test_a_diverged_replicate_is_in_the_index_and_in_no_result(
    simulation: SimulatedResults,
) -> None:
    simulation.add([0.05, 0.06, 0.07], diverged=[DIVERGED])
    with_nan(simulation, 1)
    table = files.read_dataset(simulation.table())
    assert table["diverged"].values.tolist() == [[False, True, False]]
    assert replicates(table)["capacity_ratio"].round(9).tolist() == [0.05, 0.07]
    index = pd.read_csv(simulation.folder / "study" / "index.csv")
    assert index["diverged"].tolist() == [False, True, False]
    assert index["divergence"].tolist()[1] == "step 7; likely causes: lr 1000"
    assert index["bits"].isna().tolist() == [False, True, False]
    expected = "1 of 3 trained replicates diverged and are part of no result."
    assert diverged_sentence(table) == expected


def test_losses_of_a_diverged_replicate_are_not_used_if_they_are_finite(
    simulation: SimulatedResults,
) -> None:
    simulation.add([0.05, 0.06], diverged=[DIVERGED])
    table = files.read_dataset(simulation.table())
    assert table["bits"].isnull().any("scoring").values.tolist() == [[False, True]]


def test_a_model_of_which_all_replicates_diverged_is_counted(simulation: SimulatedResults) -> None:
    simulation.add([0.05], num_people=2000)
    simulation.add([0.05], seeds=[1], diverged=[DIVERGED])
    with_nan(simulation, 0)
    table = files.read_dataset(simulation.table())
    assert len(replicates(table)) == 1
    assert [row["seed"] for row in diverged_replicates(table)] == [1]


def test_losses_that_are_not_finite_without_a_recorded_divergence_are_an_error(
    simulation: SimulatedResults,
) -> None:
    simulation.add([0.05, 0.06])
    with_nan(simulation, 1)
    with pytest.raises(UserError, match="are not finite"):
        simulation.table()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run/run.json", '"total"', '"total": 1, "other"'),
        ("run/run.json", '"exposures": 1000', '"exposures": 1001'),
        ("run/timing.json", "61.5", "51.5"),
        ("corpus/corpus.json", '"num_names": 160000000', '"num_names": 160000001'),
        ("corpus/corpus.json", '"cardinality": 263', '"cardinality": 264'),
    ],
)
def test_an_edited_file_is_an_error_that_names_it(
    simulation: SimulatedResults, name: str, old: str, new: str
) -> None:
    measurement = simulation.add([0.05])
    folder, _, file = name.partition("/")
    path = getattr(measurement, folder) / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=f"{file}: damaged, its SHA-256 is not that in DONE"):
        simulation.table()


def test_losses_of_another_run_are_an_error(simulation: SimulatedResults) -> None:
    first = simulation.add([0.05])
    second = simulation.add([0.05], num_people=2000)
    simulation.measurements = [
        type(first)(first.run, second.losses, first.corpus, first.experiments)
    ]
    with pytest.raises(UserError, match="losses of"):
        simulation.table()


def test_another_corpus_is_an_error(simulation: SimulatedResults) -> None:
    first = simulation.add([0.05])
    second = simulation.add([0.05], num_people=2000)
    simulation.measurements = [
        type(first)(first.run, first.losses, second.corpus, first.experiments)
    ]
    with pytest.raises(UserError, match="trained on bioS-N1000, not on bioS-N2000"):
        simulation.table()


def test_a_run_of_an_unknown_family_is_an_error(
    simulation: SimulatedResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(ARCHITECTURE_PRESETS, "GPT2_own", {"gated": True})
        simulation.add([0.05], family="GPT2_own")
    with pytest.raises(
        UserError, match=r"run.json: record.architecture.family: 'GPT2_own' is not one"
    ):
        simulation.table()


def test_a_table_without_measurements_is_an_error(simulation: SimulatedResults) -> None:
    with pytest.raises(UserError, match="at least one measurement"):
        simulation.table()
