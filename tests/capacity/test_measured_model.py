"""The row of a model that was trained elsewhere, alone and in the table of a study."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.bit_complexity import bit_complexity
from knowcap.capacity.measured_model import (
    append_measured,
    measured_table,
    scale_of,
    summarize_bits,
)
from knowcap.capacity.table import ExperimentLabel, replicates
from knowcap.capacity.table_columns import LABELS, describe_corpus
from knowcap.config import Corpus
from knowcap.errors import UserError
from tests.capacity.simulated_results import SimulatedResults, bios_facts, oracle

NUM_PEOPLE, NUM_PARAMS = 100_000, 3_000_000
CORPUS = Corpus.model_validate(
    {"knowledge": {"kind": "bioS", "num_people": NUM_PEOPLE, "seed": 0}, "tokenizer": "GPT2"}
)
MODEL = {
    "model": "mine", "family": "SomeForCausalLM", "num_layers": 3, "num_attention_heads": 2,
    "hidden_size": 64, "tied": True, "gated": False, "activation": "gelu",
    "normalization": "LayerNorm", "add_bias": True, "num_moe_experts": 0,
}  # fmt: skip


@pytest.fixture
def complexity() -> xr.Dataset:
    return bit_complexity(oracle(bios_facts(NUM_PEOPLE), [0.5]), bios_facts(NUM_PEOPLE))


@pytest.fixture
def measured(complexity: xr.Dataset) -> xr.Dataset:
    columns = {
        **describe_corpus(CORPUS), **MODEL, "run": "mine", "precision": "trained",
        "corpus": "bioS", "exposures": 100, "num_params": NUM_PARAMS,
        "num_params_embedding": 200_000, "num_params_active": NUM_PARAMS, "bits_per_param": np.nan,
        "num_evaluated": 5, "names_per_person": 1600.0,
    }  # fmt: skip
    return measured_table(complexity, columns, "large")


@pytest.fixture
def study(simulation: SimulatedResults) -> xr.Dataset:
    simulation.add([1.5, 1.6, 1.7], num_people=NUM_PEOPLE, experiments=["base"])
    simulation.add(
        [0.2, 0.3], kind="bioD", exposures=100, size=(1, 3), kv_channels=8, experiments=["rare"]
    )
    labels = {"rare": ExperimentLabel((4,), "small"), "base": ExperimentLabel((1,), "large")}
    return files.read_dataset(simulation.table(**labels))


def kind(column: xr.DataArray) -> str:
    """Kind of dtype; texts are objects in memory and strings in a file."""
    return column.dtype.kind.replace("U", "O")


def test_a_measured_table_has_every_column_of_a_study(measured, study):
    assert set(measured.data_vars) == set(study.data_vars)
    assert set(LABELS) <= set(measured.data_vars)
    for name, column in study.data_vars.items():
        assert measured[name].dims == column.dims, name
        assert measured[name].attrs == column.attrs, name
        assert kind(measured[name]) == kind(column), name


def test_the_ratio_of_a_measured_model_is_its_bits_by_its_parameters(measured, complexity):
    (row,) = replicates(measured).to_dict("records")
    assert row["capacity_ratio"] == pytest.approx(row["bits"] / NUM_PARAMS)
    assert row["bits"] == pytest.approx(float(complexity["max_bits"]) / 2)
    assert (row["exposures"], row["lr"], row["train_iters"]) == (100, 0, 0)


def test_an_appended_model_is_one_more_measurement_and_changes_no_other(study, measured, tmp_path):
    files.write_dataset(append_measured(study, measured), tmp_path / "capacity.nc")
    table = files.read_dataset(tmp_path / "capacity.nc")
    assert table["measurement"].values.tolist() == [*study["measurement"].values, "mine/trained"]
    before = table.isel(measurement=slice(0, 2), experiment=slice(0, 2))
    xr.testing.assert_identical(before.drop_attrs(), study.drop_attrs())
    for name, column in study.data_vars.items():
        assert kind(table[name]) == kind(column), name
        assert table[name].attrs == column.attrs, name
    for name, column in measured.data_vars.items():
        if column.dims == ("measurement",):
            np.testing.assert_array_equal(table[name].values[-1], column.values[0], err_msg=name)
    rows = replicates(table)
    assert rows["family"].tolist()[-1] == "SomeForCausalLM"
    assert len(rows) == len(replicates(study)) + 1


def test_an_appended_model_belongs_to_an_experiment_that_informs_no_law(study, measured):
    table = append_measured(study, measured)
    assert table["experiment"].values.tolist() == ["rare", "base", "measured"]
    assert table["member"].values[:, -1].tolist() == [False, False, True]
    assert table["member"].values[-1].tolist() == [False, False, True]
    assert not table["informs"].values[-1].any()
    assert table["scale"].values.tolist() == ["small", "large", "large"]


def test_models_are_appended_one_after_another_but_not_twice(study, measured):
    other = measured.assign_coords(measurement=["other/trained"])
    table = append_measured(append_measured(study, measured), other)
    assert table["experiment"].values.tolist() == ["rare", "base", "measured"]
    assert table["member"].values[-1].tolist() == [False, False, True, True]
    with pytest.raises(UserError, match="it has a measurement 'other/trained' already"):
        append_measured(table, other)


def test_the_scale_is_that_of_the_study_s_models_of_the_dataset(study):
    assert scale_of(study, "bioS(100000)") == "large"
    assert scale_of(study, "bioS(7)") == "small"


def test_a_summary_has_ratios_for_every_count_of_parameters(complexity):
    summary = summarize_bits(complexity, {"used": 1000, "all": 4000})
    bits = float(complexity["bits"].sel(scoring="strict")[0])
    assert summary["bits"]["strict"] == bits
    assert summary["capacity_ratio"]["all"]["strict"] == bits / 4000
    assert summary["max_capacity_ratio"]["used"] == float(complexity["max_bits"]) / 1000
    parts = summary["bits_by_attribute"]["plain"]
    assert sum(parts.values()) == pytest.approx(summary["bits_by_term"]["plain"]["value"])
    assert set(parts) == set(summary["max_bits_by_attribute"])
