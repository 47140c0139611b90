"""Laws from files of measurements are those of a study with the same measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.bit_complexity import bit_complexity
from knowcap.capacity.laws import LAWS
from knowcap.capacity.laws.definitions import Law, Result
from knowcap.capacity.laws.verdicts import judge, models_of
from knowcap.capacity.measured_model import measured_table
from knowcap.capacity.own_measurements.columns import LAW_COLUMNS, VALUES
from knowcap.capacity.own_measurements.dataset import SCALE, read_own_measurements
from knowcap.capacity.own_measurements.hidden_checks import names_not_shown
from knowcap.capacity.own_measurements.laws import own_laws, write_own_laws
from knowcap.capacity.table import replicates
from knowcap.capacity.table_columns import describe_corpus
from knowcap.config import Corpus
from knowcap.errors import UserError
from tests.capacity.laws.simulated_models import Simulator, table_of
from tests.capacity.laws.synthetic_studies import STUDIES, base, grid
from tests.capacity.simulated_results import bios_facts, oracle

CORPUS = Corpus.model_validate(
    {"knowledge": {"kind": "bioS", "num_people": 100_000, "seed": 0}, "tokenizer": "GPT2"}
)
REFERENCE = Path(__file__).parents[3] / "results" / "reference"


def as_file(folder: Path, rows: pd.DataFrame, *left_out: str) -> Path:
    path = folder / "mine.csv"
    columns = [name for name in VALUES if name in rows and name not in left_out]
    rows[columns].to_csv(path, index=False)
    return path


def results(law: Law, path: Path) -> dict[str, Result]:
    table = read_own_measurements([path]).table
    models = models_of(table, replicates(table), law, SCALE)
    return {each.quantity.name: each for each in judge(law, models)}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"law-{law.number}")
def test_estimates_and_verdicts_are_those_of_a_study(
    sim: Simulator, tmp_path: Path, law: Law
) -> None:
    study, _ = STUDIES[law.number]
    rows = study(sim)
    rows["capacity_ratio_given_useful"] = rows["capacity_ratio"]  # as in the simulated table
    table = table_of(dict.fromkeys(law.source_laws, rows))
    expected = judge(law, models_of(table, replicates(table), law, "simulated"))
    found = results(law, as_file(tmp_path, rows, "bits", "max_bits"))
    for each in expected:
        own = found[each.quantity.name]
        assert own.verdict == each.verdict, each.quantity.name
        np.testing.assert_allclose(own.estimate.value, each.estimate.value, rtol=1e-9)
        np.testing.assert_allclose(own.estimate.upper, each.estimate.upper, rtol=1e-6)
        assert [str(check) for check in own.checks] == [str(check) for check in each.checks]


@pytest.mark.parametrize(
    ("column", "check", "law"),
    [
        ("lr", "rate", 1),
        ("train_iters", "steps", 1),
        ("num_names", "names", 1),
        ("num_tokens", "tokens a step", 9),
    ],
)
def test_a_precondition_without_its_column_is_never_met(
    sim: Simulator, tmp_path: Path, column: str, check: str, law: int
) -> None:
    rows = STUDIES[law][0](sim)
    rows = rows[rows["lr"] == 2e-3]  # one learning rate, as the files have no column for several
    left_out = ("kind", column) if column == "num_names" else (column,)
    path = as_file(tmp_path, rows, *left_out)
    own = read_own_measurements([path])
    assert check in names_not_shown(own.table)
    found = results(LAWS[law - 1], path)
    checks = [each for result in found.values() for each in result.checks if each.name == check]
    assert checks
    assert not any(each.passed for each in checks)


def test_texts_say_what_is_not_shown_and_have_no_number_for_it(
    sim: Simulator, tmp_path: Path
) -> None:
    rows = base(sim)
    rows = rows[rows["lr"] == 2e-3]
    found = own_laws([as_file(tmp_path, rows, "lr", "train_iters", "kind", "num_names")])
    laws = found.laws
    hidden = laws["check_name"].isin(["rate", "steps", "names"]).values
    assert hidden.any()
    assert np.isnan(laws["check_value"].values[hidden]).all()
    assert not laws["check_passed"].values[hidden].astype(bool).any()
    assert all("not shown by this table" in text for text in laws["check_text"].values[hidden])
    assert "Fewest training steps: not shown by this table, at least 50,000 needed." in found.text
    assert "infinite" not in found.text
    for line in (
        "- kind: biographies of bioS",
        "- rate: lr",
        "- steps: train_iters",
        "- names: num_names",
        "- law 2: kind",
        "- law 4: the same GPT2 with 100 and with 1000 exposures and R_max of at least 2",
    ):
        assert line in found.text
    folder = tmp_path / "laws"
    write_own_laws(found, folder)
    assert {path.name for path in folder.iterdir()} == {"laws.nc", "laws.md", "capacity.nc"}
    assert (folder / "laws.md").read_text() == found.text
    read = files.read_dataset(folder / "laws.nc")
    assert read["judged_verdict"].values.tolist() == laws["judged_verdict"].values.tolist()
    with pytest.raises(UserError, match="laws"):
        write_own_laws(found, folder)


def test_a_column_with_gaps_shows_no_precondition(sim: Simulator, tmp_path: Path) -> None:
    rows = grid(sim, 2.0, max_ratio=2.6)
    rows.loc[rows["seed"] == 1, ["num_names", "train_iters"]] = np.nan
    rows["kind"] = np.nan
    own = read_own_measurements([as_file(tmp_path, rows)])
    assert {"steps", "names"} <= set(names_not_shown(own.table))
    checks = {
        check.name: check.passed
        for result in results(LAWS[0], tmp_path / "mine.csv").values()
        for check in result.checks
    }
    assert not checks["steps"]
    assert not checks["names"]


def test_laws_without_their_columns_are_not_run(sim: Simulator, tmp_path: Path) -> None:
    path = as_file(tmp_path, base(sim), *{n for names in LAW_COLUMNS.values() for n in names})
    assert read_own_measurements([path]).table["law"].values.tolist() == [1, 4]


def test_every_law_without_a_verdict_has_a_reason() -> None:
    found = own_laws([REFERENCE.parents[1] / "docs" / "figure-1a.csv"])
    verdicts = found.laws[["judged_law", "judged_verdict"]].to_dataframe()
    not_run = set(verdicts["judged_law"][verdicts["judged_verdict"] == "not run"])
    assert not_run == set(range(2, 13))
    notes = found.text.split("Laws that are not run, with the columns", 1)[1].splitlines()
    with_reason = [line.split(":")[0] for line in notes if line.startswith("- law")]
    depth = "- law 1, R of deeper models, relative to shallower ones of equal P and R_max"
    assert sorted(with_reason) == sorted([depth, *(f"- law {number}" for number in not_run)])


def test_index_csv_of_a_study_is_read(tmp_path: Path) -> None:
    table = read_own_measurements([REFERENCE / "paper-cells" / "index.csv"]).table
    (row,) = replicates(table).to_dict("records")
    assert row["capacity_ratio"] == pytest.approx(0.5128, abs=1e-4)
    assert row["capacity_ratio_in_context"] == pytest.approx(0.7426, abs=1e-4)
    assert row["num_names"] == 160_000_000


def test_the_table_of_a_study_is_left_to_its_own_command() -> None:
    with pytest.raises(UserError, match="a table of a study has experiments"):
        read_own_measurements([REFERENCE / "two-cores" / "capacity.nc"])


def measured(family: str, share: float) -> xr.Dataset:
    """Table of `knowcap measure` of a model that stores a share of bioS(100,000)."""
    facts = bios_facts(100_000)
    columns = {
        **describe_corpus(CORPUS), "model": "mine", "family": family, "num_layers": 3,
        "num_attention_heads": 2, "hidden_size": 64, "tied": True, "gated": False,
        "activation": "gelu", "normalization": "LayerNorm", "add_bias": True, "num_moe_experts": 0,
        "run": "mine", "precision": "trained", "corpus": "bioS", "exposures": 1000,
        "num_params": 2_400_000, "num_params_embedding": 200_000, "num_params_active": 2_400_000,
        "bits_per_param": np.nan, "num_evaluated": 5, "names_per_person": 1600.0,
    }  # fmt: skip
    return measured_table(bit_complexity(oracle(facts, [share]), facts), columns, "mine")


def test_rows_of_knowcap_measure_are_read_as_they_are(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.nc" for name in ("first", "second", "llama")]
    for path, (family, share) in zip(
        paths,
        [("GPTNeoXForCausalLM", 0.8), ("GPTNeoXForCausalLM", 0.7), ("LlamaForCausalLM", 0.6)],
        strict=True,
    ):
        files.write_dataset(measured(family, share), path)
    table = read_own_measurements(paths).table
    rows = replicates(table)
    assert rows["family"].tolist() == ["GPT2", "GPT2", "LLaMA"]
    assert rows["variation"].tolist() == ["", "", "tied"]
    assert table.sizes["measurement"] == 2
    share = rows["capacity_ratio"] / rows["max_capacity_ratio"]
    assert share.tolist() == pytest.approx([0.8, 0.7, 0.6], abs=1e-3)
    assert {"rate", "steps"} <= set(names_not_shown(table))
    assert "names" not in names_not_shown(table)
    with pytest.raises(UserError, match="given 2 times"):
        read_own_measurements([paths[0], paths[0]])


def test_a_measured_row_without_exposures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.nc"
    files.write_dataset(
        measured("LlamaForCausalLM", 0.5).assign(exposures=("measurement", [0])), path
    )
    with pytest.raises(UserError, match="exposures: '0' is not above 0"):
        read_own_measurements([path])
