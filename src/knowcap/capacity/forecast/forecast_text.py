"""Forecasts as a table with notes, and as plain numbers for JSON."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from knowcap.capacity.forecast.capacity_fit import CapacityFit
from knowcap.capacity.forecast.forecast import Forecast
from knowcap.capacity.forecast.log_prediction import Interval
from knowcap.capacity.forecast.number_text import interval_text, number_text, range_text
from knowcap.capacity.forecast.paper_values import PAPER_SIZES
from knowcap.capacity.forecast.table_forecasts import outside_factor

SOURCES = {"table": "the measurements", "paper": "the paper"}

COLUMNS = {
    "exposures": "exposures E",
    "num_params": "parameters P",
    "bits": "bits it can store",
    "capacity_ratio": "bits per parameter",
    "tokens": "training tokens D",
    "flops": "FLOPs 6 P D",
    "gpu_hours": "GPU-hours",
}
"""Numbers of a forecast and their headings."""

REFUSED = "not predicted"

WANTED = {
    "num_params": ("num_params", "Parameters that are needed"),
    "largest": ("num_params", "Parameters of the largest model within the hours"),
    "bits": ("bits", "Bits that the model can store"),
    "exposures": ("exposures", "Exposures that are needed"),
}
"""Numbers that can be wanted, in words."""


def answer_text(forecasts: Sequence[Forecast], wanted: str, gpu: str | None) -> str:
    """Table of the wanted number alone, with lettered notes below.

    Parameters
    ----------
    forecasts
        All forecasts.
    wanted
        Key of :data:`WANTED`.
    gpu
        GPU whose hours are a column, too.
    """
    name, heading = WANTED[wanted]
    names = dict.fromkeys(("exposures", name, *(("bits",) if wanted == "largest" else ())))
    table = _table(forecasts, [*names, *(("gpu_hours",) if gpu else ())], gpu)
    return f"{heading}:\n\n{table}"


def forecasts_text(forecasts: Sequence[Forecast], gpu: str | None) -> str:
    """Table of all numbers of forecasts, with lettered notes below."""
    return _table(forecasts, [name for name in COLUMNS if gpu or name != "gpu_hours"], gpu)


def _table(forecasts: Sequence[Forecast], names: Sequence[str], gpu: str | None) -> str:
    """Table of some columns, with lettered notes below."""
    notes: dict[str, str] = {}
    rows = [_row(forecast, names, notes) for forecast in forecasts]
    headings = [f"{gpu}-hours" if name == "gpu_hours" else COLUMNS[name] for name in names]
    headings.insert(1, "source")
    table = tabulate(rows, headings, tablefmt="simple", disable_numparse=True)
    lettered = [f"{letter}  {_sentence(text)}" for text, letter in notes.items()]
    return "\n".join([table, *([""] if notes else []), *lettered])


def summary_lines(forecasts: Sequence[Forecast], wanted: str) -> Iterator[str]:
    """Yield the wanted number from the table and from the paper, one line each.

    Parameters
    ----------
    forecasts
        All forecasts.
    wanted
        Key of :data:`WANTED`.
    """
    name, heading = WANTED[wanted]
    for source, label in SOURCES.items():
        found = [each for each in forecasts if each.source == source and not each.refused]
        texts = []
        for each in found:
            text = interval_text(getattr(each, name))
            if name != "exposures":
                text += f" at {number_text(each.exposures.estimate)} exposures"
            texts.append(text)
        if not texts:
            texts = [f"{REFUSED} (see below)" if source == "table" else "no number"]
        yield f"{heading}, by {label}: {'; '.join(texts)}."


def _row(forecast: Forecast, names: Sequence[str], notes: dict[str, str]) -> list[str]:
    """Cells of a forecast; its notes are added to those of the table."""
    texts = (forecast.refused, *forecast.notes) if forecast.refused else forecast.notes
    for text in texts:
        notes.setdefault(text, string.ascii_lowercase[len(notes) % 26])
    marks = "".join(f" [{notes[text]}]" for text in texts)
    cells = [interval_text(getattr(forecast, name)) for name in names]
    if forecast.refused and "-" in cells:
        cells[cells.index("-")] = REFUSED
    cells.insert(1, SOURCES[forecast.source] + marks)
    return cells


def table_sentences(fit: CapacityFit, path: str) -> Iterator[str]:
    """Yield sentences on the models behind the forecasts from a table."""
    cells, sizes, people = _cells(fit)
    kinds = " and ".join(dict.fromkeys(text.split("(")[0] for text in cells["knowledge"]))
    exposures = " and ".join(f"{level.exposures:,}" for level in fit.levels)
    yield (
        f"The measurements: {path}, scale {fit.scale!r}: {len(cells)} cells of GPT2 with "
        f"{range_text(sizes)} parameters on {kinds} of {range_text(people)} people "
        f"at {exposures} exposures."
    )
    for level in fit.levels:
        if not level.has_trend:
            yield (
                f"At {level.exposures:,} exposures there are too few cells for a trend with size: "
                "R is taken as equal at all sizes."
            )
        yield from (
            f"{factor.label}, is measured at {factor.exposures:,} exposures and used at "
            f"{level.exposures:,}."
            for factor in level.factors
            if factor.exposures != level.exposures
        )
    yield from fit.omitted


def extrapolation_sentences(
    fit: CapacityFit, forecasts: Sequence[Forecast], num_people: int | None
) -> Iterator[str]:
    """Yield how far sizes and people lie outside of the models behind the forecasts."""
    _, sizes, people = _cells(fit)
    if sizes[1] < PAPER_SIZES[0]:
        factor = number_text(PAPER_SIZES[0] / sizes[1])
        yield (
            f"The measurements are of scale models: the paper's smallest model is {factor} times "
            "larger than their largest."
        )
    if num_people is not None and (factor_ := outside_factor(num_people, people)) > 1:
        yield (
            f"N = {num_people:,} people lie outside of the measurements, {number_text(factor_)} "
            "times. R is taken to depend on parameters and exposures only."
        )
    predicted = [each.num_params.estimate for each in forecasts if each.source == "paper"]
    farthest = max(predicted, key=lambda size: outside_factor(size, PAPER_SIZES), default=0)
    if predicted and (factor_ := outside_factor(farthest, PAPER_SIZES)) > 1:
        side = "above" if farthest > PAPER_SIZES[1] else "below"
        times = f"{number_text(factor_)} times {side}"
        yield f"{number_text(farthest)} parameters are {times} the sizes of the paper's models."


def _cells(fit: CapacityFit) -> tuple[pd.DataFrame, tuple[float, float], tuple[float, float]]:
    """All cells of a fit, with the ranges of their parameters and people."""
    cells = pd.concat([level.cells for level in fit.levels])
    return cells, _range_of(cells["num_params"]), _range_of(cells["num_people"])


def paper_sentences(forecasts: Sequence[Forecast]) -> Iterator[str]:
    """Yield sentences on the numbers of the paper."""
    found = [each for each in forecasts if each.source == "paper"]
    if not found:
        yield "The paper (arXiv 2404.05405) states no number for this question."
        return
    yield (
        "The paper: what arXiv 2404.05405 states, for models of about "
        f"{range_text(PAPER_SIZES)} parameters. Its numbers are not measured here and have no "
        "intervals."
    )


def forecast_values(forecast: Forecast) -> dict[str, Any]:
    """Numbers of a forecast for JSON; null is unknown, or an end where nothing is predicted."""
    return {
        "source": forecast.source,
        **{name: _interval_values(getattr(forecast, name)) for name in COLUMNS},
        "fit_sizes": forecast.fit_sizes,
        "outside_factor": _finite(forecast.outside_factor),
        "refused": _sentence(forecast.refused) or None,
        "notes": list(forecast.notes),
    }


def _interval_values(interval: Interval) -> dict[str, float | None]:
    """Ends of an interval that exist; the lower end 0 stands for no prediction."""
    values = {name: _finite(number) for name, number in interval._asdict().items()}
    return {name: number or None for name, number in values.items()}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _range_of(column: pd.Series[Any]) -> tuple[float, float]:
    return float(column.min()), float(column.max())


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].removesuffix('.')}." if text else ""
