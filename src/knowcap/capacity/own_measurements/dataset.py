"""Measurements made elsewhere in the form of a study's table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.bit_complexity import SCORINGS, TERMS
from knowcap.capacity.laws.estimators import Floats
from knowcap.capacity.own_measurements.columns import (
    CHECK_COLUMNS,
    DEFAULTS,
    FAMILY_CLASSES,
    JUNK,
    LAW_COLUMNS,
    SETTING_FIELDS,
    VALUES,
    Kind,
)
from knowcap.capacity.own_measurements.csv_file import read_measurements
from knowcap.capacity.own_measurements.hidden_checks import ATTRIBUTE
from knowcap.capacity.table_columns import BIOD_SHAPE, LABELS, NO_REPLICATE
from knowcap.config.knowledge import BioS
from knowcap.errors import UserError

SCALE = "own measurements"
"""Scale and experiment of all rows."""

UNKNOWN: Mapping[str, Any] = {
    "lr": 0.0,
    "train_iters": 1,
    "num_tokens": 0,
    "num_junk_people": 0,
    "moe_router_topk": 0,
    "moe_expert_capacity_factor": np.inf,
}
"""Values of missing columns that may not be NaN; with them their preconditions are not met."""

BLANKED = ("num_names", "train_iters", "num_tokens")
"""Columns that are unknown in all rows if they are in one."""

EMPTY: Mapping[Kind, Any] = {"count": np.nan, "number": np.nan, "flag": False, "text": ""}
"""Other missing values, by kind."""

DTYPES: Mapping[Kind, Any] = {"count": float, "number": float, "flag": bool, "text": object}

IDENTITY = (
    *("kind", "num_people", "population_seed", *BIOD_SHAPE, "num_versions", "rewriter"),
    *("tokenizer", *JUNK, "exposures", "optimizer", "family"),
    *("model", "variation", "num_layers", "num_attention_heads", "hidden_size", "tied", "gated"),
    *("activation", "normalization", "add_bias", "num_moe_experts", "moe_router_topk"),
    *("moe_expert_capacity_factor", "num_params", "train_iters", "precision"),
)
"""Settings that are equal in the replicates of a measurement."""

OF_REPLICATES = ("seed", "lr", "num_tokens", "bits", "capacity_ratio", "capacity_ratio_of_values")
"""Columns of a single training; the others are settings of a measurement."""


class OwnMeasurements(NamedTuple):
    """A table, and what its file does not say."""

    table: xr.Dataset
    """As built by :func:`knowcap.capacity.table.build_table`."""
    given: frozenset[str]
    """Columns that the file has."""
    assumed: tuple[tuple[str, str], ...]
    """Missing columns, with the values that are used in words."""


def read_own_measurements(paths: Sequence[Path]) -> OwnMeasurements:
    """Read files of measurements into a table on which the laws can be tested.

    Raises
    ------
    UserError
        With all mistakes of the files, a line for each.
    """
    rows = read_measurements(paths)
    given = set(rows.columns[rows.notna().any()])
    _add_known_names(rows)
    # A column of a precondition counts only if every row has a value.
    complete = set(rows.columns[rows.notna().all()])
    for name in BLANKED:
        if name not in complete:
            rows[name] = np.nan
    given -= {"kind"} - complete
    if "family" in rows:
        rows["family"] = rows["family"].replace(FAMILY_CLASSES)
    assumed = tuple(_fill_defaults(rows))
    if "train_iters" not in complete:
        rows["num_tokens"] = np.nan  # tokens per step are unknown
    _fill_unknown(rows)
    _add_labels(rows)
    _check_duplicates(rows)
    laws = tuple(law for law, columns in LAW_COLUMNS.items() if given.issuperset(columns))
    not_shown = [
        check for check, columns in CHECK_COLUMNS.items() if not complete.issuperset(columns)
    ]
    table = _table(rows, laws).assign_attrs({ATTRIBUTE: ", ".join(not_shown)})
    return OwnMeasurements(table, frozenset(given), assumed)


def _add_known_names(rows: pd.DataFrame) -> None:
    """Set N0 of bioS and bioR, where the file says that they are."""
    if "kind" in rows:
        known = rows["kind"].isin(["bioS", "bioS-simple", "bioR"])
        num_names = BioS(kind="bioS", num_people=1, seed=0).num_names
        column = rows["num_names"] if "num_names" in rows else pd.Series(np.nan, rows.index)
        rows["num_names"] = column.where(column.notna() | ~known, num_names)


def _fill_defaults(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Fill columns that have a default; yield those that were missing, with their meaning."""
    for name, (value, meaning) in DEFAULTS.items():
        column = rows[name] if name in rows else pd.Series(None, rows.index, dtype=object)
        missing = column.isna()
        rows[name] = column.astype(object).where(~missing, value)
        if name == "num_versions":  # the kind tells it, but for bioR
            versions = rows["kind"].map({"bioS-simple": 1, "bioR": np.nan}).fillna(np.inf)
            fixed = missing & rows["kind"].isin(["bioS-simple", "bioR"])
            rows[name] = rows[name].where(~fixed, versions)
            missing &= ~fixed
        if missing.any():
            where = "" if missing.all() else f", in {int(missing.sum())} of {len(rows)} rows"
            yield name, f"{meaning}{where}"


def _fill_unknown(rows: pd.DataFrame) -> None:
    """Fill the columns that no default is known for, in the types that the laws expect."""
    for name in VALUES:
        kind, fill = VALUES[name], UNKNOWN.get(name, EMPTY[VALUES[name]])
        column = rows[name] if name in rows else pd.Series(None, rows.index, dtype=object)
        filled = column.astype(object).where(column.notna(), fill).astype(DTYPES[kind])
        is_complete = kind == "count" and filled.notna().all()
        rows[name] = filled.astype(np.int64) if is_complete else filled
    tied = rows["tied"] & rows["family"].isin(["LLaMA", "Mistral"])
    rows["variation"] = rows["variation"].mask(tied & (rows["variation"] == ""), "tied")


def _add_labels(rows: pd.DataFrame) -> None:
    """Add names of models, datasets, runs and measurements."""
    sizes = rows["num_layers"].notna() & rows["num_attention_heads"].notna()
    names = [
        f"{row.family}-{row.num_layers:.0f}-{row.num_attention_heads:.0f}"
        if has_size
        else f"{row.family}, {row.num_params:,.0f} parameters"
        for row, has_size in zip(rows.itertuples(), sizes, strict=True)
    ]
    rows["model"] = rows["model"].where(rows["model"] != "", pd.Series(names, rows.index))
    rows["knowledge"] = [
        f"{kind}({', '.join(f'{part:.0f}' for part in parts if not np.isnan(part))})"
        for kind, *parts in rows[["kind", "num_people", *BIOD_SHAPE]].itertuples(index=False)
    ]
    runs = rows.groupby([n for n in IDENTITY if n != "precision"], dropna=False, sort=False)
    rows["run"] = [f"run {number}" for number in runs.ngroup()]
    rows["measurement"] = rows["run"] + "/" + rows["precision"]


def _check_duplicates(rows: pd.DataFrame) -> None:
    """Raise a UserError if two rows are the same training, or one model has several sizes."""
    lines = []
    for _, group in rows.groupby(["knowledge", "population_seed", "model"], sort=False):
        first = group.iloc[0]
        lines += [
            f"{other.place}: model: {other.model} has {other.num_params:,} parameters here and "
            f"{first['num_params']:,} in {first['place'].rsplit(': ', 1)[-1]}; models of other "
            "sizes need other names"
            for other in group.itertuples()
            if other.num_params != first["num_params"]
        ]
    for _, group in rows.groupby(["measurement", "lr", "seed"], sort=False):
        if len(group) > 1:
            first, *others = group["place"]
            lines += [
                f"{other}: equal to {first.rsplit(': ', 1)[-1]} in all settings; columns such as "
                "seed, lr or model tell them apart"
                for other in others
            ]
    if lines:
        raise UserError.of_lines(lines)


def _bits(table: xr.Dataset, rows: pd.DataFrame, wide: Callable[[str], Floats]) -> xr.Dataset:
    """Bits and capacity ratios in the scorings that the file has."""
    columns = {"plain": "capacity_ratio"} | {
        scoring: f"capacity_ratio_{scoring}"
        for scoring in SCORINGS
        if scoring != "plain" and rows[f"capacity_ratio_{scoring}"].notna().any()
    }
    dims = ("measurement", "replicate")
    ratios = xr.DataArray(
        np.stack([wide(name) for name in columns.values()], axis=-1),
        coords={"scoring": list(columns)},
        dims=(*dims, "scoring"),
        attrs={"units": "bit/parameter", "long_name": "capacity ratio R"},
    )
    bits = ratios * table["num_params"]
    of_values = xr.DataArray(wide("capacity_ratio_of_values"), dims=dims) * table["num_params"]
    terms = [bits - of_values, of_values.broadcast_like(bits), 0 * bits]
    by_term = xr.concat(terms, dim=xr.Variable("term", list(TERMS)))
    return xr.Dataset({"capacity_ratio": ratios, "bits": bits, "bits_by_term": by_term})


def _settings(
    shapes: pd.DataFrame,
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """Fields that differ between measurements, and their values as JSON; empty if unknown."""
    columns = [name for name in SETTING_FIELDS if shapes[name].nunique(dropna=False) > 1]
    values = shapes[columns].map(lambda value: "" if pd.isna(value) else json.dumps(value))
    fields = [SETTING_FIELDS[name] for name in columns]
    return np.array(fields, dtype=object), values.to_numpy(dtype=object)


def _table(rows: pd.DataFrame, laws: tuple[int, ...]) -> xr.Dataset:
    """Table of all rows, in one experiment that informs `laws`."""
    replicate = rows.groupby("measurement", sort=False).cumcount()
    shapes = rows.groupby("measurement", sort=False).first()
    indexed = rows.assign(replicate=replicate).set_index(["measurement", "replicate"])
    dims = ("measurement", "replicate")

    def wide(name: str) -> Floats:
        values = indexed[name].unstack("replicate").loc[shapes.index]
        return np.asarray(values.to_numpy(dtype=float))

    table = xr.Dataset(coords={"measurement": shapes.index.to_numpy(dtype=object)})
    settings = [name for name in VALUES if name not in OF_REPLICATES and "bits" not in name]
    for name in (*settings, "max_bits", "bits_per_param", "knowledge", "run"):
        if not name.startswith("capacity_ratio_"):
            values = shapes[name].to_numpy()
            table[name] = (
                "measurement",
                values.astype(object) if values.dtype == object else values,
            )
    seeds = wide("seed")
    table["seed"] = (dims, np.where(np.isnan(seeds), NO_REPLICATE, seeds).astype(np.int64))
    table["lr"] = (dims, wide("lr"))
    table["num_tokens"] = (dims, np.nan_to_num(wide("num_tokens")))
    table = table.merge(_bits(table, rows, wide))
    fields, values = _settings(shapes)
    table = table.assign_coords(field=fields)
    table["setting"] = (("measurement", "field"), values)
    table = table.assign_coords(experiment=[SCALE], law=list(laws))
    table["member"] = (("experiment", "measurement"), np.ones((1, len(shapes)), dtype=bool))
    table["informs"] = (("experiment", "law"), np.ones((1, len(laws)), dtype=bool))
    table["scale"] = ("experiment", np.array([SCALE], dtype=object))
    for name in LABELS.keys() & table.data_vars.keys():
        units, long_name = LABELS[name]
        table[name].attrs = {"long_name": long_name} | ({"units": units} if units else {})
    return table.assign_attrs(Conventions="CF-1.11", format=files.FORMAT)
