"""Table row, table of bits and figure of a model that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.bit_complexity import capacity_ratio
from knowcap.capacity.table_columns import LABELS, NO_REPLICATE
from knowcap.errors import UserError

EXPERIMENT = "measured"
"""Experiment of measured models in a table; it informs no law."""

UNKNOWN: Mapping[str, Any] = {
    **dict.fromkeys(("variation", "device", "engine", "commit", "code_digest", "versions"), ""),
    **dict.fromkeys(("trained_at", "optimizer"), ""),
    **dict.fromkeys(("exposures", "train_iters", "num_threads"), 0),
    **dict.fromkeys(("train_s", "tokens_per_s"), np.nan),
    **dict.fromkeys(("share_quantised", "num_uncompensated"), 0.0),
    "moe_router_topk": 0,
    "moe_expert_capacity_factor": np.inf,
}
"""Columns that a model without a record does not have, as the table writes unknown values."""


def measured_table(complexity: xr.Dataset, values: Mapping[str, Any], scale: str) -> xr.Dataset:
    """Table of one measured model, in the form of a study's table.

    Parameters
    ----------
    complexity
        As returned by :func:`knowcap.capacity.bit_complexity.bit_complexity`, of one replicate.
    values
        Columns in :data:`~knowcap.capacity.table_columns.LABELS`; those in :data:`UNKNOWN` may be
        missing.
    scale
        Scale of its experiment.
    """
    row = complexity.merge(
        capacity_ratio(complexity, values["num_params"]), combine_attrs="drop_conflicts"
    )
    row = row.drop_vars(["seed", "lr"], errors="ignore").assign_coords(replicate=[0])
    columns: dict[str, Any] = {
        "seed": ("replicate", [0]),
        "lr": ("replicate", [0.0]),
        "num_tokens": ("replicate", [0]),
        "diverged": ("replicate", [False]),
        "divergence": ("replicate", np.array([""], dtype=object)),
    }
    for name, value in {**UNKNOWN, **values}.items():
        columns[name] = ((), np.array(value, dtype=object if isinstance(value, str) else None))
    measurement = f"{values['run']}/{values['precision']}"
    table: xr.Dataset = row.assign(columns).expand_dims(measurement=[measurement])
    table = table.assign_coords(experiment=[EXPERIMENT], law=np.array([], dtype=np.int64))
    table["member"] = (("experiment", "measurement"), [[True]])
    table["informs"] = (("experiment", "law"), np.zeros((1, 0), dtype=bool))
    table["scale"] = ("experiment", np.array([scale], dtype=object))
    table = table.assign_coords(field=np.array([], dtype=object))
    table["setting"] = (("measurement", "field"), np.empty((1, 0), dtype=object))
    for name, (units, long_name) in LABELS.items():
        table[name].attrs = {"long_name": long_name} | ({"units": units} if units else {})
    return table.assign_attrs(Conventions="CF-1.11", format=files.FORMAT)


def append_measured(study: xr.Dataset, measured: xr.Dataset) -> xr.Dataset:
    """Table of a study with a measured model as its last measurement.

    The table keeps its columns and scorings.

    Raises
    ------
    UserError
        If the table has a measurement of the same name.
    """
    (name,) = measured["measurement"].values.tolist()
    if name in study["measurement"].values:
        raise UserError(f"--study-table: it has a measurement {name!r} already")
    sizes = [table.sizes["replicate"] for table in (study, measured)]
    attributes = list(
        dict.fromkeys(str(a) for table in (study, measured) for a in table["attribute"].values)
    )
    measured = measured.drop_dims("field")  # the model has no record, and so no settings
    columns = [each for each, v in study.data_vars.items() if "measurement" in v.dims]
    columns.remove("member")
    missing = {
        each: xr.full_like(study[each].isel(measurement=[0]), _empty(study[each])).assign_coords(
            measurement=[name]
        )
        for each in columns
        if each not in measured
    }
    tables = [
        _with_long_texts(table[columns]).reindex(
            replicate=np.arange(max(sizes)),
            attribute=attributes,
            scoring=study["scoring"].values,
            fill_value={"seed": NO_REPLICATE, "num_tokens": 0, "diverged": False, "divergence": ""},
        )
        for table in (study, measured.assign(missing))
    ]
    table = xr.concat(
        tables, dim="measurement", data_vars="all", join="exact", coords="minimal",
        compat="override", combine_attrs="override",
    )  # fmt: skip
    experiments = [*study["experiment"].values.tolist(), EXPERIMENT]
    both = [study, measured]
    if EXPERIMENT in experiments[:-1]:
        experiments.pop()
        both.pop()
    member = np.zeros((len(experiments), table.sizes["measurement"]), dtype=bool)
    member[: study.sizes["experiment"], :-1] = study["member"].values
    member[experiments.index(EXPERIMENT), -1] = True
    informs = np.zeros((len(experiments), study.sizes["law"]), dtype=bool)
    informs[: study.sizes["experiment"]] = study["informs"].values
    scale = [each for source in both for each in source["scale"].values.tolist()]
    table = table.assign_coords(experiment=experiments, law=study["law"])
    table["member"] = (("experiment", "measurement"), member, study["member"].attrs)
    table["informs"] = (("experiment", "law"), informs, study["informs"].attrs)
    table["scale"] = ("experiment", np.array(scale, dtype=object), study["scale"].attrs)
    return table.assign_attrs(study.attrs)


def _with_long_texts(table: xr.Dataset) -> xr.Dataset:
    """Convert texts of a fixed length, as read from a file, which would cut longer ones off."""
    texts = {name: v.astype(object) for name, v in table.items() if v.dtype.kind == "U"}
    return table.assign(texts)


def _empty(column: xr.DataArray) -> Any:
    """Value of a column that does not apply to a model."""
    return "" if column.dtype == object else np.zeros((), column.dtype)[()]


def scale_of(study: xr.Dataset, knowledge: str) -> str:
    """Scale of a study that has models of a dataset; the first scale if none has."""
    has_dataset = study["member"].values[:, study["knowledge"].values == knowledge].any(axis=1)
    scales = study["scale"].values[has_dataset].tolist() or study["scale"].values.tolist()
    return str(scales[0])


def without_window_scorings(complexity: xr.Dataset) -> xr.Dataset:
    """Replace the scorings of names within a window by NaN, where windows were not evaluated."""
    is_measured = ~complexity["scoring"].isin(["in_window", "given_useful"])
    names = [name for name, values in complexity.items() if "scoring" in values.dims]
    measured = complexity[names].where(is_measured)
    return complexity.assign(measured)


def summarize_bits(complexity: xr.Dataset, num_params: Mapping[str, int]) -> dict[str, Any]:
    """Bits and capacity ratios of one replicate as plain numbers, in all measured scorings.

    Parameters
    ----------
    complexity
        As returned by :func:`knowcap.capacity.bit_complexity.bit_complexity`.
    num_params
        Numbers of parameters by what they count.
    """
    one = complexity.isel(replicate=0)
    by_scoring = {
        scoring: one.sel(scoring=scoring)
        for scoring in complexity["scoring"].values.tolist()
        if np.isfinite(one["bits"].sel(scoring=scoring))
    }
    return {
        "bits": {scoring: float(each["bits"]) for scoring, each in by_scoring.items()},
        "max_bits": float(one["max_bits"]),
        "num_params": dict(num_params),
        "capacity_ratio": {
            name: {scoring: float(each["bits"]) / number for scoring, each in by_scoring.items()}
            for name, number in num_params.items()
        },
        "max_capacity_ratio": {
            name: float(one["max_bits"]) / number for name, number in num_params.items()
        },
        "bits_by_term": {
            scoring: _by_label(each["bits_by_term"], "term") for scoring, each in by_scoring.items()
        },
        "max_bits_by_term": _by_label(one["max_bits_by_term"], "term"),
        "bits_by_attribute": {
            scoring: _by_label(each["bits_by_attribute"], "attribute")
            for scoring, each in by_scoring.items()
        },
        "max_bits_by_attribute": _by_label(one["max_bits_by_attribute"], "attribute"),
    }


def _by_label(values: xr.DataArray, dim: str) -> dict[str, float]:
    """Values of a one-dimensional array by label."""
    return dict(zip(values[dim].values.tolist(), values.values.tolist(), strict=True))
