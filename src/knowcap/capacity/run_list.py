"""List of the replicates in a table, selected by conditions on its columns."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

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

SHOWN = (
    *("run", "precision", "seed", "lr", "num_params"),
    *("max_capacity_ratio", "capacity_ratio", "capacity_ratio_in_context"),
)
"""Columns that are always listed."""

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


def varying_columns(replicates: pd.DataFrame) -> list[str]:
    """Return the columns of settings in which replicates differ, apart from the listed ones."""
    settings = replicates.loc[:, "kind":"num_moe_experts"].nunique() > 1
    return [str(name) for name in settings[settings].index if name not in SHOWN]


def runs_table(replicates: pd.DataFrame, columns: Sequence[str] = ()) -> str:
    """Return a table of replicates as text.

    Parameters
    ----------
    replicates
        The rows.
    columns
        Columns beside :data:`SHOWN`; if there are none, those in which the replicates differ.

    Raises
    ------
    UserError
        If a column does not exist.
    """
    for column in columns:
        _check_column(column, replicates)
    names = [*SHOWN, *(columns or varying_columns(replicates))]
    table: str = tabulate(
        replicates[list(dict.fromkeys(names))],
        headers="keys",
        tablefmt="plain",
        showindex=False,
        floatfmt=".4g",
        intfmt=",",
    )
    return table


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
