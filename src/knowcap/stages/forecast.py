"""Forecast of parameters, exposures, bits and cost from numbers on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from knowcap.capacity.forecast.capacity_fit import fit_capacity
from knowcap.capacity.forecast.forecast import Forecast, Given
from knowcap.capacity.forecast.forecast_text import (
    answer_text,
    extrapolation_sentences,
    forecast_values,
    forecasts_text,
    paper_sentences,
    summary_lines,
    table_sentences,
)
from knowcap.capacity.forecast.forecasts import forecasts
from knowcap.capacity.forecast.law_verdicts import verdict_lines
from knowcap.capacity.forecast.stored_share import nearly_all
from knowcap.capacity.own_measurements.any_table import read_any_table
from knowcap.errors import UserError
from knowcap.stages.forecast_options import ForecastOptions, given_numbers, option_errors

INTERVALS = "Numbers in brackets are 95 % prediction intervals, for one more model on other people."

MORE = (
    "--explain adds bits per parameter, training tokens and operations, what else is assumed, and "
    "the verdicts on the laws (docs/questions.md)."
)


class ForecastReport(NamedTuple):
    """Forecasts with the sentences about them."""

    given: tuple[str, ...]
    wanted: str
    """Name of the number that is not given, as in WANTED."""
    forecasts: tuple[Forecast, ...]
    extrapolation: tuple[str, ...]
    """Sentences on how far the forecasts are from the models behind them."""
    notes: tuple[str, ...]
    table: str
    scale: str
    laws: tuple[str, ...]
    gpu: str | None

    def as_text(self, *, explain: bool = False) -> str:
        """Text for people: the wanted number, how far it extrapolates, and what is assumed."""
        answer = [answer_text(self.forecasts, self.wanted, self.gpu), *self.extrapolation]
        if not explain:
            intervals, measurements, *_ = self.notes
            return "\n".join([*answer, "", *self.given, intervals, measurements, MORE])
        blocks = [
            "\n".join(answer),
            "\n".join(self.given),
            forecasts_text(self.forecasts, self.gpu),
            "\n".join(self.notes),
            "\n".join(["Verdicts of the measurements:", *(f"  {line}" for line in self.laws)]),
        ]
        return "\n\n".join(blocks)

    def as_json(self) -> str:
        """JSON for programs."""
        values: dict[str, Any] = {
            "given": self.given,
            "summary": tuple(summary_lines(self.forecasts, self.wanted)),
            "table": self.table,
            "scale": self.scale,
            "forecasts": [forecast_values(each) for each in self.forecasts],
            "extrapolation": self.extrapolation,
            "notes": self.notes,
            "verdicts": self.laws,
        }
        return json.dumps(values, indent=2, allow_nan=False)


def forecast_report(
    options: ForecastOptions, table_path: Path, scale: str | None = None
) -> ForecastReport:
    """Return the forecasts from the table of a study, beside the paper's numbers.

    Parameters
    ----------
    options
        The given numbers.
    table_path
        ``capacity.nc``, or a CSV file of measurements that were made elsewhere.
    scale
        Scale of the table; by default its only one.

    Raises
    ------
    UserError
        With all mistakes of the options at once; or if no law can be fitted to the table.
    """
    if errors := list(option_errors(options)):
        raise UserError.of_lines(errors)
    table = read_any_table(table_path)
    try:
        fit = fit_capacity(table, options.family, options.precision, scale)
    except UserError as error:
        raise UserError(f"{table_path}: {error}") from None
    given, sentences = given_numbers(options)
    found = forecasts(given, fit, options.family, options.precision)
    notes = [
        INTERVALS,
        *table_sentences(fit, str(table_path)),
        *paper_sentences(found),
    ]
    is_default = options.family == "GPT2" and options.precision == "trained"
    if given.bits is not None and given.num_params is None and is_default:
        notes += nearly_all(table, fit.scale, given.bits)
    laws = verdict_lines(table, fit.scale, options.family, options.precision)
    return ForecastReport(
        tuple(sentences), _wanted(given), tuple(found),
        tuple(extrapolation_sentences(fit, found, options.people)),
        tuple(notes), str(table_path), fit.scale, tuple(laws), options.gpu,
    )  # fmt: skip


def _wanted(given: Given) -> str:
    """Name of the number that is not given, as in WANTED."""
    if given.num_params is None:
        return "largest" if given.bits is None else "num_params"
    return "exposures" if given.bits is not None and given.exposures is None else "bits"
