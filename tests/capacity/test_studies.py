"""The study files contain the models that every law needs.

Nothing is trained: the laws are tested on a table with simulated capacity ratios of all models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from knowcap.artifacts import identity
from knowcap.capacity.bit_complexity import bit_complexity
from knowcap.capacity.laws import LAWS, compute_verdicts
from knowcap.capacity.table import ExperimentLabel
from knowcap.capacity.table_columns import describe_run
from knowcap.config import Corpus, Run
from knowcap.config.study import Study, load_study
from knowcap.model.num_params import num_params
from knowcap.planning.cost import text_statistics
from tests.capacity.laws.simulated_models import table_of_experiments
from tests.capacity.simulated_results import biod_facts, bios_facts, oracle

CONFIG = Path(__file__).parents[2] / "config"

PRIMARY = {(law.number, quantity.name) for law in LAWS for quantity in law.quantities
          if quantity.primary}  # fmt: skip

BITS = {"trained": 32.0, "int8": 8.0, "int4": 4.0}


@cache
def knowledge_bits(corpus: Corpus) -> float:
    """All bits in a corpus."""
    knowledge = corpus.knowledge
    if knowledge.kind == "bioD":
        shape = ("num_attributes", "num_chunks", "diversity", "chunk_length", "alphabet_size")
        facts = biod_facts(
            knowledge.num_people, tuple(getattr(knowledge, name) for name in shape)
        ) | {"num_names": knowledge.num_names}  # fmt: skip
    else:
        facts = bios_facts(knowledge.num_people)
    return float(bit_complexity(oracle(facts, num_evaluated=1), facts)["max_bits"])


def rows(run: Run, precision: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows of a run whose replicates store nearly all, or about 1.9 bits per parameter."""
    counts = num_params(run.architecture, text_statistics(run.corpus, Path()).vocab_size)
    max_ratio = knowledge_bits(run.corpus) / counts["total"]
    name = identity.run_name(run)
    shape = describe_run(run) | {
        "run": name,
        "measurement": f"{name}/{precision}",
        "precision": precision,
        "num_params": counts["total"],
        "num_params_embedding": counts["embedding"] + counts.get("output_layer", 0),
        "num_params_active": counts.get("active", counts["total"]),
        "max_capacity_ratio": max_ratio,
        "train_iters": 60_000,
        "num_tokens": 60_000 * run.optimization.global_batch_size * run.optimization.seq_length,
        "bits_per_param": BITS[precision.partition("_")[0]],
        "share_quantised": float(precision != "trained"),
    }
    ratios = min(1.9, 0.95 * max_ratio) * (
        1 + 0.01 * rng.standard_normal(len(run.replicates.pairs))
    )
    return [
        shape | {"seed": seed, "lr": lr, "capacity_ratio": ratio, "bits": ratio * counts["total"]}
        for (seed, lr), ratio in zip(run.replicates.pairs, ratios, strict=True)
    ]


def table(study: Study, is_included: Callable[[Run], bool]) -> xr.Dataset:
    """Table of a study with the included runs."""
    rng = np.random.default_rng(1)
    found = {
        (run, precision): rows(run, precision, rng)
        for run, precision in study.measurements()
        if is_included(run)
    }
    models = {
        name: [row for each in experiment.measurements() for row in found.get(each, [])]
        for name, experiment in study.experiments.items()
    }
    labels = {name: ExperimentLabel(e.laws, e.scale) for name, e in study.experiments.items()}
    return table_of_experiments({name: pd.DataFrame(m) for name, m in models.items() if m}, labels)


@pytest.fixture(scope="module")
def single_gpu() -> xr.Dataset:
    return compute_verdicts(table(load_study(CONFIG / "single_gpu.yaml"), lambda run: True))


@pytest.fixture(scope="module")
def paper() -> xr.Dataset:
    """The paper's study without its larger populations, which have the same models."""

    def is_small(run: Run) -> bool:
        return run.corpus.knowledge.num_people in (100_000, 200_000)

    return compute_verdicts(table(load_study(CONFIG / "paper.yaml"), is_small))


def statuses(laws: xr.Dataset, scale: str = "paper") -> dict[tuple[int, str], str]:
    frame = laws[["law", "quantity", "subset", "status", "scale"]].to_dataframe()
    frame = frame[(frame["scale"] == scale) & (frame["subset"] == "")]
    return {(row.law, row.quantity): row.status for row in frame.itertuples()}


@pytest.fixture(scope="module")
def default() -> xr.Dataset:
    return compute_verdicts(table(load_study(CONFIG / "config.yaml"), lambda run: True))


NOT_IN_TWENTY_MINUTES = {(9, "E = 1000"), (10, "R at 600 exposures"), (10, "R at 1000 exposures")}
"""Laws and parts of names of quantities that the default study leaves out (docs/scale-model.md)."""


def test_the_default_study_leaves_out_three_primary_quantities(default: xr.Dataset) -> None:
    found = statuses(default, "scale model")
    without_data = {(law, name) for law, name in PRIMARY if found[law, name] == "no data"}
    assert len(without_data) == len(NOT_IN_TWENTY_MINUTES)
    for law, part in NOT_IN_TWENTY_MINUTES:
        assert any(law == other and part in name for other, name in without_data), (law, part)


MEASURED = {"plateau", "baseline", "effect to explain", "sizes agree"}
"""Preconditions that depend on measured capacity ratios, not on the cells of a study."""


def test_the_cells_of_the_default_study_meet_all_preconditions_but_those_documented(
    default: xr.Dataset,
) -> None:
    checks = default[[name for name in default if default[name].dims == ("check",)]].to_dataframe()
    failed = {
        (row.check_law, row.check_name)
        for row in checks.itertuples()
        if (row.check_law, row.check_quantity) in PRIMARY
        and row.check_name not in MEASURED
        and not row.check_passed
    }
    assert failed == {(2, "wordings"), (9, "sizes"), (9, "tokens a step")}


def test_the_single_gpu_study_has_models_for_all_primary_quantities(
    single_gpu: xr.Dataset,
) -> None:
    found = statuses(single_gpu)
    assert [key for key in PRIMARY if found[key] == "no data"] == []


def test_the_papers_study_has_models_for_all_primary_quantities(paper: xr.Dataset) -> None:
    found = statuses(paper)
    assert [key for key in PRIMARY if found[key] == "no data"] == []


def test_both_studies_estimate_all_differences_of_llama(
    single_gpu: xr.Dataset, paper: xr.Dataset
) -> None:
    for laws in (single_gpu, paper):
        # The paper undoes one difference at a time, so its interactions are unknown.
        effects = {
            name: status
            for (law, name), status in statuses(laws).items()
            if law == 7 and name.startswith("factor on R")
        }
        assert len(effects) == 4
        assert [name for name, status in effects.items() if status == "no data"] == []
