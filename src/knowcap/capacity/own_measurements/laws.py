"""Verdicts on the laws from measurements made elsewhere, and which preconditions are not shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.laws import LAWS, compute_verdicts, laws_markdown
from knowcap.capacity.laws.architectures import FAMILY_LABELS
from knowcap.capacity.own_measurements.columns import CHECK_COLUMNS, LAW_COLUMNS
from knowcap.capacity.own_measurements.dataset import OwnMeasurements, read_own_measurements
from knowcap.capacity.own_measurements.hidden_checks import (
    NOT_SHOWN,
    is_unknown,
    names_not_shown,
    without_number,
)

FAMILIES = ("GPT2", *FAMILY_LABELS)
"""Families that laws are about."""

TEXTS = ("failed", "explanation", "judged_failed", "judged_explanation", "check_text")
"""Variables of laws.nc that contain the texts of preconditions."""

LAWS_FILE, MARKDOWN_FILE, TABLE_FILE = "laws.nc", "laws.md", "capacity.nc"


class OwnLaws(NamedTuple):
    """Verdicts and their text."""

    table: xr.Dataset
    laws: xr.Dataset
    text: str


def own_laws(paths: Sequence[Path]) -> OwnLaws:
    """Estimate all quantities of all laws from files of measurements.

    Raises
    ------
    UserError
        With all mistakes of the files, a line for each.
    """
    own = read_own_measurements(paths)
    laws = compute_verdicts(own.table)
    not_shown = laws["check_name"].isin(names_not_shown(own.table)).values
    numbers = laws["check_value"].values.tolist()
    is_missing = np.array([is_unknown(number) for number in numbers], dtype=bool)
    hidden = not_shown & is_missing & ~laws["check_passed"].values.astype(bool)
    laws = without_numbers(laws, hidden)
    checks = list(dict.fromkeys(laws["check_name"].values[hidden].tolist()))
    text = "\n".join([laws_markdown(laws), *_notes(own, laws, checks)])
    return OwnLaws(own.table, laws, f"{text.rstrip()}\n")


def write_own_laws(found: OwnLaws, folder: Path) -> None:
    """Write laws.nc, laws.md and the table into a new or empty folder."""
    files.check_new_folder(folder)
    with files.atomic_folder(folder) as temporary:
        files.write_dataset(found.laws, temporary / LAWS_FILE)
        files.write_text(temporary / MARKDOWN_FILE, found.text)
        files.write_dataset(found.table, temporary / TABLE_FILE)


def without_numbers(laws: xr.Dataset, hidden: npt.NDArray[np.bool_]) -> xr.Dataset:
    """Verdicts in which preconditions have no number where `hidden` is set, in their texts too."""
    replaced = {old: without_number(old) for old in laws["check_text"].values[hidden].tolist()}
    values = np.where(hidden, np.nan, laws["check_value"].values.astype(float))
    laws = laws.assign(check_value=("check", values, laws["check_value"].attrs))
    return laws.assign({name: _replaced(laws[name], replaced) for name in TEXTS})


def _replaced(column: xr.DataArray, texts: dict[str, str]) -> xr.DataArray:
    """Texts in which parts are replaced, with a small or a capital first letter."""
    values = column.values.tolist()
    for old, new in texts.items():
        for change in (str, _capital):
            values = [value.replace(change(old), change(new)) for value in values]
    return column.copy(data=np.array(values, dtype=object))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _models_needed(own: OwnMeasurements, laws: xr.Dataset) -> tuple[dict[str, str], ...]:
    """Models that are missing for whole laws, and for quantities of the other laws."""
    rows = laws[["law", "quantity", "verdict", "subset"]].to_dataframe()
    of_laws: dict[str, str] = {}
    of_quantities: dict[str, str] = {}
    for law in (each for each in LAWS if each.number in own.table["law"].values):
        chosen = rows[(rows["law"] == law.number) & (rows["subset"] == "")]
        missing = set(chosen["quantity"][chosen["verdict"] == "not run"])
        if len(missing) < len(chosen):
            needs = {each.name: each.needs for each in law.quantities if each.name in missing}
            of_quantities |= {f"law {law.number}, {name}": text for name, text in needs.items()}
        else:
            first, *others = dict.fromkeys(each.needs for each in law.quantities if each.primary)
            of_laws[f"law {law.number}"] = f"for example {first}" if others else first
    return of_laws, of_quantities


def _notes(own: OwnMeasurements, laws: xr.Dataset, checks: Sequence[str]) -> Iterator[str]:
    """Yield lines on assumed values, on preconditions that are not shown and on laws not run."""
    of_laws, of_quantities = _models_needed(own, laws)
    numbers = own.table["law"].values.tolist()
    missing = {
        f"law {law}": ", ".join(name for name in columns if name not in own.given)
        for law, columns in LAW_COLUMNS.items()
        if law not in numbers
    }
    families = dict.fromkeys(own.table["family"].values.tolist())
    unknown = {name: "no law is about it" for name in families if name not in FAMILIES}
    blocks = {
        "Assumed, as these columns are missing:": dict(own.assumed),
        f"Preconditions {NOT_SHOWN} and so not met, with the columns that would show them:": {
            check: ", ".join(CHECK_COLUMNS[check]) for check in checks
        },
        "Laws that are not run, with the columns that this table lacks:": missing,
        "Laws that are not run, with the models that this table lacks:": of_laws,
        "Quantities that are not run, with the models that this table lacks:": of_quantities,
        "Families:": unknown,
    }
    for heading, lines in blocks.items():
        if lines:
            yield from (heading, "", *(f"- {name}: {text}" for name, text in lines.items()), "")
