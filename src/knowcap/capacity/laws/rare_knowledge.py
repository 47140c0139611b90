"""Law 4: at 100 exposures models store one bit of knowledge per parameter."""

from __future__ import annotations

import pandas as pd

from knowcap.capacity.laws.cell_summaries import largest_two_sizes
from knowcap.capacity.laws.cells import cells, compare
from knowcap.capacity.laws.claims import Claim, at_least, times_lower
from knowcap.capacity.laws.definitions import Law, Quantity
from knowcap.capacity.laws.exposure_curve import compare_with_asymptote
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    RARE_EXPOSURES,
    RARE_PEAK_RATIO,
    capacity_limited,
    reference,
    with_exposures,
)
from knowcap.capacity.laws.preconditions import (
    BaselineReaches,
    EnoughSteps,
    InteriorRate,
    ManyNames,
    Plateau,
    SeveralSizes,
)
from knowcap.capacity.laws.quantities import BASELINE_RATIOS, linear_mean, log_mean, usual

VARIED = frozenset({"optimization.exposures"})


def _arms(models: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Models with 100 and with 1000 exposures that the corpus does not limit."""
    limited = capacity_limited(reference(models))
    return with_exposures(limited, RARE_EXPOSURES), with_exposures(limited, FREQUENT_EXPOSURES)


def _ratio(models: pd.DataFrame) -> pd.DataFrame:
    return compare(*_arms(models), "capacity_ratio", varied=VARIED)


def _plateau(models: pd.DataFrame) -> pd.DataFrame:
    """Cells of the two largest sizes, with R of the same models at 1000 exposures."""
    rare, frequent = _arms(models)
    if rare.empty:
        return rare
    found = largest_two_sizes(cells(rare, "capacity_ratio"))
    base = frequent["capacity_ratio"].groupby([frequent["model"], frequent["lr"]]).mean()
    peaks = base.groupby(level="model").max()
    return found.assign(capacity_ratio_baseline=found["model"].map(peaks))


def _asymptote(models: pd.DataFrame) -> pd.DataFrame:
    limited = capacity_limited(reference(models))
    return compare_with_asymptote(limited, "capacity_ratio", FREQUENT_EXPOSURES)


LAW = Law(
    number=4,
    title="Rare knowledge",
    claim="At 100 exposures a model stores one bit per parameter, half of that at 1000 exposures.",
    source_laws=(1, 4),
    varied=VARIED,
    quantities=(
        Quantity(
            name="R at 100 exposures, relative to the same model at 1000 exposures",
            units="",
            claim=times_lower(2),  # PAPER 4.2: one bit per parameter instead of two.
            select=_ratio,
            estimate=log_mean,
            needs="the same GPT2 with 100 and with 1000 exposures and R_max of at least 2",
            primary=True,
            preconditions=usual(FREQUENT_EXPOSURES),
        ),
        Quantity(
            name="R of the largest models at 100 exposures",
            units="bit/parameter",
            claim=at_least(RARE_PEAK_RATIO, 0.05, "a twentieth of the value, as for the base law"),
            select=_plateau,
            estimate=linear_mean,
            needs="GPT2 with 100 exposures and R_max of at least 2",
            preconditions=(
                SeveralSizes(),
                Plateau(),
                InteriorRate(),
                # The claim presupposes that the same models store two bits at 1000 exposures.
                BaselineReaches(1.9),
                EnoughSteps(),
                ManyNames(),
            ),
        ),
        Quantity(
            name="R extrapolated to unlimited exposures, relative to 1000 exposures",
            units="",
            claim=Claim(
                text="about 1",  # PAPER 4.1: models are sufficiently trained after 1000 exposures.
                value=1.0,
                lower=0.85,
                upper=1.15,
                reason="the scatter of the paper's peaks at 1000 exposures",
            ),
            select=_asymptote,
            estimate=log_mean,
            needs="a GPT2 with 1000 and three other numbers of exposures, R_max of at least 2",
            preconditions=(
                SeveralSizes(),
                InteriorRate(),
                BaselineReaches(BASELINE_RATIOS[FREQUENT_EXPOSURES]),
            ),
        ),
    ),
)
