"""Verdicts on every law for synthetic studies in which it holds and in which it fails."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from knowcap.capacity.laws import LAWS
from knowcap.capacity.laws.definitions import Law, Result, Verdict, combine_verdicts
from knowcap.capacity.laws.verdicts import details, judge
from tests.capacity.laws.simulated_models import Simulator
from tests.capacity.laws.synthetic_studies import POPULATIONS, SIZES, STUDIES, TRUE_VALUES, grid

every_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: f"law-{law.number}")


def results(law: Law, models: pd.DataFrame) -> dict[str, Result]:
    return {result.quantity.name: result for result in judge(law, models)}


def verdict(law: Law, models: pd.DataFrame) -> Verdict:
    return combine_verdicts([r.verdict for r in judge(law, models) if r.quantity.primary])


def test_there_are_twelve_laws_in_order() -> None:
    assert [law.number for law in LAWS] == list(range(1, 13))
    assert all(law.number in law.source_laws for law in LAWS)


@every_law
def test_names_of_quantities_are_distinct_and_primaries_come_first(law: Law) -> None:
    names = [quantity.name for quantity in law.quantities]
    assert len(set(names)) == len(names)
    is_primary = [quantity.primary for quantity in law.quantities]
    assert is_primary == sorted(is_primary, reverse=True)
    assert is_primary[0]


@every_law
def test_a_law_that_holds_is_reproduced(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    found = results(law, study(sim))
    failed = {name: str(result.failed) for name, result in found.items() if result.failed}
    assert failed == {}
    primary = {name: r.verdict for name, r in found.items() if r.quantity.primary}
    assert primary == dict.fromkeys(primary, "reproduced")


@every_law
def test_a_law_that_fails_is_contradicted(sim: Simulator, law: Law) -> None:
    study, factor = STUDIES[law.number]
    assert verdict(law, study(sim, factor)) == "contradicted"


@every_law
def test_without_noise_the_true_values_are_recovered(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    sim.noise = 1e-6
    found = results(law, study(sim))
    for name, truth in TRUE_VALUES[law.number].items():
        # The scale of the noise; a curve's asymptote is fitted to the optimiser's tolerance.
        assert found[name].estimate.value == pytest.approx(truth, rel=1e-3, abs=1e-4), name
        assert found[name].estimate.status == "ok", name


@every_law
def test_one_size_is_not_testable(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    models = study(sim)
    sizes = models["num_params"].unique()
    found = judge(law, models[models["num_params"] == sizes[0]])
    for result in found:
        if result.quantity.primary:
            assert result.verdict == "not testable here"
            assert "sizes" in [check.name for check in result.failed]


@every_law
def test_a_law_without_models_is_not_run(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    nothing = study(sim).iloc[:0]
    assert verdict(law, nothing) == "not run"
    assert all(not fact.describe(nothing) for fact in law.facts)


@every_law
def test_a_law_is_not_run_on_experiments_of_other_laws(sim: Simulator, law: Law) -> None:
    if law.number in (1, 3, 4):
        pytest.skip("needs GPT2 only")
    study, _ = STUDIES[1]
    assert verdict(law, study(sim)) == "not run"


def test_all_replicates_are_used(sim: Simulator) -> None:
    """Cells with four and with eight seeds are both used completely."""
    models = [grid(sim, 2.0, (SIZES[0],))]
    sim.num_seeds = 8
    models.append(grid(sim, 2.0, (SIZES[1],), model="larger"))
    families = [frame.assign(family="GPT2_0") for frame in models]
    renamed = [
        frame.assign(measurement="x" + frame["measurement"], run="x" + frame["run"])
        for frame in families
    ]
    law = LAWS[4]
    name = "R of GPT2 without MLPs, relative to GPT2 of equal size"
    coverage = results(law, pd.concat([*models, *renamed]))[name].estimate.coverage
    rates, sides = 3, 2
    assert coverage.num_replicates == sides * rates * len(POPULATIONS) * (4 + 8)
    assert (coverage.min_seeds, coverage.max_seeds) == (4, 8)
    assert coverage.scope == "2 sizes, 2 populations"


def test_only_unmodified_gpt2_informs_the_base_law(sim: Simulator) -> None:
    plain = sim.models([1.5])
    others = [
        {"family": "LLaMA"}, {"variation": "gated"}, {"num_moe_experts": 32},
        {"useful_share": 0.125}, {"kind": "bioR"}, {"num_versions": 1}, {"tokenizer": "Mistral"},
        {"variation": "no-tied"}, {"exposures": 100},
    ]  # fmt: skip
    mixed = pd.concat([plain, *(sim.models([3.0], **columns) for columns in others)])
    name = LAWS[0].quantities[0].name
    found = [results(LAWS[0], models)[name].estimate for models in (plain, mixed)]
    assert found[0].value == pytest.approx(found[1].value)
    assert found[0].coverage.scope == "this cell"


def test_junk_is_repetitive_if_its_people_have_more_exposures(sim: Simulator) -> None:
    mixture = {"useful_share": 0.125, "exposures": 100, "model": "GPT2-0"}
    plain = sim.models([1.0], exposures=100)
    # Seven times as many biographies as of a thousand useful people.
    for num_junk_people, is_repetitive in ((6_999, True), (7_001, False)):
        models = sim.models([1.0], num_junk_people=num_junk_people, **mixture)
        found = judge(LAWS[10], pd.concat([plain, models]))[0]
        assert (found.verdict != "not run") == is_repetitive


def test_other_quantisation_methods_are_details(sim: Simulator) -> None:
    law = LAWS[7]
    models = STUDIES[8][0](sim)
    models["precision"] = models["precision"].replace("int4", "int4_rtn")
    found = results(law, models)["R in int4, relative to R as trained"]
    assert found.verdict == "not run"
    estimates = dict(details(found, models))
    assert estimates["round to nearest"].value == pytest.approx(0.4, abs=0.02)


def test_each_cell_is_a_detail(sim: Simulator) -> None:
    models = STUDIES[4][0](sim)
    first = judge(LAWS[3], models)[0]
    cells = dict(details(first, models))
    assert len(cells) == len(SIZES) * len(POPULATIONS)
    assert all(estimate.coverage.scope == "this cell" for estimate in cells.values())
    lowest, highest = first.estimate.leave_one_out
    assert lowest < first.estimate.value < highest
    values = [estimate.value for estimate in cells.values()]
    assert np.exp(np.mean(np.log(values))) == pytest.approx(first.estimate.value)
