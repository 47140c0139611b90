"""Comparisons of a law hold every field of the record equal that is neither compared nor tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from knowcap.capacity.laws import LAWS, gated_mlp
from knowcap.capacity.laws.cells import cells
from knowcap.capacity.laws.definitions import Law, Quantity
from knowcap.capacity.laws.junk import MIXED_WITHIN_WINDOWS
from knowcap.capacity.laws.settings import TUNED, closest_baselines
from knowcap.capacity.laws.verdicts import details, judge, models_of
from knowcap.config import Run
from knowcap.config.base import Record
from tests.capacity.laws.simulated_models import Simulator, table_of
from tests.capacity.laws.synthetic_studies import (
    BIOD,
    EXPERTS,
    POPULATIONS,
    SIZES,
    STUDIES,
    base,
    grid,
)

COMPARED: dict[int, Callable[[pd.DataFrame], pd.Series[bool]]] = {
    2: lambda models: models["num_versions"] > 0,
    3: lambda models: (models[list(BIOD)] != pd.Series(BIOD)).any(axis="columns"),
    4: lambda models: models["exposures"] == 100,
    5: lambda models: models["family"] != "GPT2",
    6: lambda models: models["family"] != "GPT2",
    7: lambda models: models["gated"],
    9: lambda models: models["num_moe_experts"] > 0,
    10: lambda models: models["useful_share"] < 1,
    11: lambda models: models["useful_share"] < 1,
    12: lambda models: models["useful_share"] < 1,
}
"""By law: the models on one side of the comparison. Laws 1 and 8 have no other model beside it."""

VARIED = {law.number: law.varied for law in LAWS} | {7: gated_mlp.VARIED["gate"]}
"""By law: what differs between the sides of its first quantity."""


def record_fields(kind: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted names of all fields of a record and of the records in it."""
    for name, field in kind.model_fields.items():
        records = list(records_in(field.annotation))
        if not records or str in get_args(field.annotation):
            yield f"{path}{name}"
        for record in records:
            yield from record_fields(record, f"{path}{name}.")


def records_in(annotation: Any) -> Iterator[type[Record]]:
    """Yield the records of an annotation, such as those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        yield annotation
    for part in get_args(annotation):
        yield from records_in(part)


FIELDS = sorted(set(record_fields(Run)))


def changed(models: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Other trainings of the same models, with three times their R."""
    ratio = {name: 3 * models[name] for name in models if str(name).startswith("capacity_ratio")}
    names = {name: "other-" + models[name] for name in ("run", "measurement")}
    return models.assign(**ratio, **names, bits=3 * models["bits"], **columns)


def summary(quantity: Quantity, models: pd.DataFrame) -> tuple[int, float]:
    """Number of cells of a quantity, and their mean."""
    found = quantity.select(models)
    return len(found), round(found["value"].mean(), 6)


def test_all_fields_of_a_record_are_found() -> None:
    assert len(FIELDS) > 50
    names = ("corpus.mixture.unit", "corpus.knowledge.rewriter.model", "optimization.dtype")
    assert set(names) <= set(FIELDS)


@pytest.mark.parametrize("names", [TUNED, *VARIED.values()], ids=["tuned", *map(str, VARIED)])
def test_declared_fields_exist(names: frozenset[str]) -> None:
    known = {f"{name}." for name in FIELDS}
    assert [name for name in names if not any(f.startswith(f"{name}.") for f in known)] == []


@pytest.mark.parametrize("law", [LAWS[n - 1] for n in COMPARED], ids=lambda law: str(law.number))
def test_a_field_is_tuned_or_compared_by_the_law_or_equal_on_both_sides(
    sim: Simulator, law: Law
) -> None:
    """Models with another value of a field, and no baseline with it, change nothing."""
    study, _ = STUDIES[law.number]
    sim.num_seeds = 2
    models = study(sim)
    models = models[(models["population_seed"] == 0) & (models["num_params"] == SIZES[0])]
    others = changed(models[COMPARED[law.number](models)])
    quantity = law.quantities[0]
    expected = summary(quantity, models)
    differs = set()
    for name in FIELDS:
        both = pd.concat([models.assign(**{name: "1"}), others.assign(**{name: "2"})])
        if summary(quantity, both) != expected:
            differs.add(name)
    free = {
        name
        for name in FIELDS
        if any(f"{name}.".startswith(f"{other}.") for other in TUNED | VARIED[law.number])
    }
    assert differs == free


@pytest.mark.parametrize("law", LAWS, ids=lambda law: str(law.number))
def test_settings_of_the_compared_models_remove_no_cell(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    models = study(sim)
    fields = {name.rpartition(".")[2]: name for name in FIELDS}
    # Columns of these names are not the fields: the seed of a replicate, and the label of a model.
    names = [name for name in models if name in fields and name not in ("seed", "lr", "model")]
    columns = {fields[name]: models[name] for name in names}
    columns["corpus.knowledge.seed"] = models["population_seed"]
    assert len(columns) > 15
    texts = {name: list(map(str, each)) for name, each in columns.items()}
    with_columns = models.assign(**texts)
    for quantity in law.quantities:
        assert len(quantity.select(with_columns)) == len(quantity.select(models)), quantity.name


@pytest.mark.parametrize("name", ["optimization.dtype", "corpus.knowledge.layout"])
def test_models_with_different_settings_are_no_candidates_of_one_cell(
    sim: Simulator, name: str
) -> None:
    models = grid(sim, 1.0)
    both = pd.concat([models.assign(**{name: '"a"'}), changed(models, **{name: '"b"'})])
    found = cells(both, "capacity_ratio")
    assert len(found) == 2 * len(SIZES) * len(POPULATIONS)
    assert found["value"].groupby(found[name]).mean().round(1).tolist() == [1.0, 3.0]
    tuned = both.rename(columns={name: "optimization.weight_decay"})
    assert len(cells(tuned, "capacity_ratio")) == len(SIZES) * len(POPULATIONS)


def test_labels_of_cells_name_the_settings_that_differ(sim: Simulator) -> None:
    models = base(sim)
    name = "optimization.dtype"
    both = pd.concat([models.assign(**{name: '"float32"'}), changed(models, **{name: '"bf16"'})])
    result = judge(LAWS[0], both)[0]
    labels = [label for label, _ in details(result, both)]
    assert len(set(labels)) == len(labels)
    assert "model 2 on bioS(1000), population 0, dtype bf16" in labels


@pytest.mark.parametrize("number", [10, 11, 12])
def test_windows_with_useful_biographies_and_junk_are_a_detail(sim: Simulator, number: int) -> None:
    law, (study, _) = LAWS[number - 1], STUDIES[number]
    models = study(sim)
    mixed = models[models["useful_share"] < 1]
    both = pd.concat([models, changed(mixed, mixture_unit="biography")])
    quantity = law.quantities[0]
    assert summary(quantity, both) == summary(quantity, models)
    found = dict(details(judge(law, both)[0], both))[MIXED_WITHIN_WINDOWS]
    plain = quantity.estimate(quantity.select(models))
    assert found.value == pytest.approx(3 * plain.value)


def test_other_shares_of_junk_are_not_compared(sim: Simulator) -> None:
    study, _ = STUDIES[10]
    models = study(sim)
    other = changed(models[models["useful_share"] < 1], useful_share=0.5)
    quantity = LAWS[9].quantities[0]
    both = pd.concat([models, other])
    assert summary(quantity, both) == summary(quantity, models)


@pytest.mark.parametrize(
    ("other", "label"),
    [
        ({"moe_router_topk": 2, "moe_expert_capacity_factor": 1.0}, "top-2, capacity 1"),
        ({"moe_router_topk": 2}, "top-2, capacity 2"),
        ({"moe_expert_capacity_factor": np.inf}, None),
        ({"num_moe_experts": 8}, None),
    ],
)
def test_law_9_is_judged_by_the_routing_of_the_paper(
    sim: Simulator, other: dict[str, Any], label: str | None
) -> None:
    study, _ = STUDIES[9]
    models = study(sim)
    sparse = models[models["num_moe_experts"] > 0]
    both = pd.concat([models, changed(sparse, **(EXPERTS | other))])
    law = LAWS[8]
    assert summary(law.quantities[0], both) == summary(law.quantities[0], models)
    result = judge(law, both)[0]
    variants = {n: found for n, found in details(result, both) if n.startswith("top-")}
    assert list(variants) == ([label] if label else [])
    if label:
        assert variants[label].value == pytest.approx(3 * result.estimate.value, rel=1e-3)


def test_models_of_a_table_have_their_settings(sim: Simulator) -> None:
    table = table_of({1: base(sim)})
    num_models = table.sizes["measurement"]
    values = np.array([[f'"{index}"'] for index in range(num_models)], dtype=object)
    table = table.drop_dims("field").assign(
        setting=(("measurement", "field"), values), field=["optimization.dtype"]
    )
    rows = base(sim)
    rows["measurement"] = rows["measurement"].replace(
        dict(zip(rows["measurement"].unique(), table["measurement"].values, strict=True))
    )
    found = models_of(table, rows, LAWS[0], "simulated")
    by_model = found.groupby("measurement")["optimization.dtype"].unique()
    assert by_model[table["measurement"].values[1]].tolist() == ['"1"']


def test_the_baseline_with_most_equal_settings_is_the_closest() -> None:
    pairs = pd.DataFrame(
        {
            "cell": [1, 0, 0, 1],
            "max_capacity_ratio": [2.0, 2.0, 2.0, 2.0],
            "max_capacity_ratio_baseline": [2.0, 2.0, 3.0, 2.5],
            "a.b": ["1", "1", "1", "1"],
            "a.b_baseline": ["2", "2", "1", "2"],
        }
    )
    found = closest_baselines(pairs, "cell", ["a.b"])
    assert found["max_capacity_ratio_baseline"].tolist() == [3.0, 2.0]
    assert list(found.columns) == [name for name in pairs if name != "cell"]
