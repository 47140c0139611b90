"""List of the replicates in a table, selected by conditions on its columns."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from knowcap.capacity.table_columns import LABELS
from knowcap.errors import UserError

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
"""Comparisons of a condition."""

IN_NAME = ("model", "kind", "num_people", "exposures")
"""Settings that the name of a run contains."""

_COLUMNS = list(LABELS)
SETTINGS = _COLUMNS[_COLUMNS.index("num_names") : _COLUMNS.index("moe_expert_capacity_factor") + 1]
"""Further settings of runs, in the order of the table."""

OF_REPLICATES = ("precision", "seed", "lr")
"""Columns in which the replicates of a run differ; they are listed if they do."""

RATIOS = ("capacity_ratio", "capacity_ratio_in_context")
"""Capacity ratios that are listed: attributes scored alone, and within whole biographies."""

HEADINGS = {
    "capacity_ratio": "R",
    "capacity_ratio_in_context": "R in context",
}
"""Short headings of columns that are always listed."""

_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")
_BOOLEANS = {"true": True, "false": False}


def select_replicates(replicates: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Return the replicates that meet all conditions, largest capacity ratio first.

    Parameters
    ----------
    replicates
        As returned by :func:`knowcap.capacity.table.replicates`.
    conditions
        Such as `family=LLaMA`, `precision!=trained` or `num_params<1e6`. Texts are compared by
        `=` and `!=` only.

    Raises
    ------
    UserError
        If a condition cannot be read, or names a column that the table does not have.
    """
    selected = replicates
    for condition in conditions:
        column, comparison, text = _parse(condition, replicates)
        value = _value(condition, replicates[column], comparison, text)
        selected = selected[OPERATORS[comparison](selected[column], value)]
    return selected.sort_values("capacity_ratio", ascending=False, kind="stable")


def identifying_columns(replicates: pd.DataFrame) -> list[str]:
    """Return the fewest columns, in their order, that tell the replicates apart.

    These are the run and what differs among its replicates; further settings that differ if they do
    not follow from the name of the run and the columns before, such as a population's seed. The
    number of layers, for example, follows from the model.
    """
    varying = replicates.nunique(dropna=False) > 1
    chosen = [name for name in OF_REPLICATES if varying[name]]
    pairs = zip(replicates["run"], replicates["model"], strict=True)
    is_named = all(run.startswith(model) for run, model in pairs)  # not in own measurements
    known = [replicates[name].astype(str) for name in ("precision", *(IN_NAME if is_named else ()))]
    for name in filter(replicates.columns.__contains__, (*IN_NAME, *SETTINGS)):
        texts = replicates[name].astype(str)
        if texts.groupby(known).nunique().max() > 1:
            known.append(texts)
            chosen.append(name)
    return ["run", *chosen]


def runs_table(replicates: pd.DataFrame, columns: Sequence[str] = ()) -> str:
    """Return a table of replicates as text.

    Parameters
    ----------
    replicates
        The rows, at least one.
    columns
        Columns of the table; if there are none, those of :func:`identifying_columns` and
        :data:`RATIOS`.

    Raises
    ------
    UserError
        If a column does not exist.
    """
    for column in columns:
        _check_column(column, replicates)
    names = list(dict.fromkeys(columns)) or [
        *identifying_columns(replicates),
        *(name for name in RATIOS if name in replicates),
    ]
    headings = names if columns else [HEADINGS.get(name, name) for name in names]
    shown = replicates[names]
    rows = [map(_text, row) for row in shown.itertuples(index=False)]
    is_number = [pd.api.types.is_numeric_dtype(dtype) for dtype in shown.dtypes]
    # Headings are a row, as tabulate pads columns with short values by two more spaces otherwise.
    table: str = tabulate(
        [headings, *rows],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["right" if each else "left" for each in is_number],
    )
    return table


def _text(value: object) -> str:
    """Text of a value: four digits of a number, thousands of an integer."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _parse(condition: str, replicates: pd.DataFrame) -> tuple[str, str, str]:
    """Return column, comparison and value of a condition."""
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise UserError(
            f"--where: {condition!r} is not allowed; a column, one of {' '.join(OPERATORS)} and "
            "a value are expected, such as num_params<1e6"
        )
    column, comparison, text = match.groups()
    _check_column(column, replicates)
    return column, comparison, text


def _value(condition: str, column: pd.Series[Any], comparison: str, text: str) -> Any:
    """Return the value of a condition in the type of its column."""
    if pd.api.types.is_bool_dtype(column):
        if text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        raise UserError(f"--where: {condition!r} is not allowed; {column.name} is true or false")
    if pd.api.types.is_numeric_dtype(column):
        try:
            return float(text)
        except ValueError:
            raise UserError(
                f"--where: {condition!r} is not allowed; {column.name} is a number"
            ) from None
    if comparison not in ("=", "!="):
        raise UserError(f"--where: {condition!r} is not allowed; {column.name} is a text (= or !=)")
    return text


def _check_column(column: str, replicates: pd.DataFrame) -> None:
    if column not in replicates:
        raise UserError(f"{column}: no such column; columns are {', '.join(replicates.columns)}")
