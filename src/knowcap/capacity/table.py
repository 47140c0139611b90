"""The table of a study: bits and description of each measurement.

A measurement is a run in one precision; its replicates are the run's seeds and learning rates.
Laws, figures and report read this table and no other file of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.bit_complexity import bit_complexity, capacity_ratio
from knowcap.capacity.diverged_replicates import (
    DIVERGED_COLUMNS,
    diverged_sentence,
    divergence_of_replicates,
    fill_replicates,
)
from knowcap.capacity.measurement_files import (
    MeasurementFiles,
    read_measurement,
    study_measurements,
)
from knowcap.capacity.missing_measurements import missing_sentence, with_num_missing
from knowcap.capacity.table_columns import (
    LABELS,
    NO_REPLICATE,
    describe_run,
    describe_training,
)
from knowcap.capacity.varied_settings import varied_settings
from knowcap.config import Run
from knowcap.config.study import Study
from knowcap.errors import UserError


@dataclass(frozen=True)
class ExperimentLabel:
    """Laws and scale of an experiment."""

    laws: tuple[int, ...]
    """Numbers of the laws that the experiment informs."""
    scale: str
    """Name of the scale; every law is tested within one scale."""


def write_study_table(
    study: Study, table_path: Path, index_path: Path, *, partial: bool = False
) -> str:
    """Write the table of a study; return sentences on missing and diverged ones.

    Parameters
    ----------
    study
        The study whose results are read.
    table_path, index_path
        The netCDF file and the CSV file to write.
    partial
        Leave out measurements that do not exist yet. The table then has ``num_measurements``
        and ``num_missing`` of each experiment, which the report prints.

    Returns
    -------
    str
        Such as `1 of 24 measurements are missing: 1 of 12 of bioS.`, and the number of replicates
        that diverged; empty if there are none.

    Raises
    ------
    UserError
        If `partial` is set and no measurement exists, or as :func:`write_table` does.
    """
    measurements = list(study_measurements(study))
    existing = [each for each in measurements if each.losses.exists()] if partial else measurements
    if partial and not existing:
        raise UserError(f"{study.results}: no measurement of study {study.study!r} exists yet")
    labels = {
        name: ExperimentLabel(experiment.laws, experiment.scale)
        for name, experiment in study.experiments.items()
    }
    table = build_table(existing, labels)
    if len(existing) < len(measurements):
        names = table["experiment"].values
        totals, found = (
            [sum(name in each.experiments for each in group) for name in names]
            for group in (measurements, existing)
        )
        table = with_num_missing(table, totals, found, len(measurements), len(existing))
    _write(table, table_path, index_path)
    return " ".join(filter(None, (missing_sentence(table), diverged_sentence(table))))


def write_table(
    measurements: Sequence[MeasurementFiles],
    experiments: Mapping[str, ExperimentLabel],
    table_path: Path,
    index_path: Path,
) -> None:
    """Write a table as netCDF, and its replicates as CSV.

    Raises
    ------
    UserError
        If a file is missing or damaged, or if losses belong to another run or corpus.
    """
    _write(build_table(measurements, experiments), table_path, index_path)


def _write(table: xr.Dataset, table_path: Path, index_path: Path) -> None:
    files.write_dataset(table, table_path)
    index = replicates(table, with_diverged=True)
    experiments_of = {
        name: " ".join(table["experiment"].values[member])
        for name, member in zip(table["measurement"].values, table["member"].T.values, strict=True)
    }
    index.insert(1, "experiments", index["measurement"].map(experiments_of))
    files.write_text(index_path, index.to_csv(index=False, float_format="%.10g"))


def build_table(
    measurements: Sequence[MeasurementFiles], experiments: Mapping[str, ExperimentLabel]
) -> xr.Dataset:
    """Build the table of a study.

    Parameters
    ----------
    measurements
        At least one.
    experiments
        By name, in the order of the study.

    Returns
    -------
    xr.Dataset
        Dims ``measurement``, ``replicate``, ``scoring``, ``term``, ``attribute``, ``experiment``,
        ``law``, ``field``. In bits: ``bits``, ``bits_by_term``, ``bits_by_attribute`` and their
        maxima ``max_...``; in bits per parameter: ``capacity_ratio`` and ``max_capacity_ratio``;
        and the columns in :data:`~knowcap.capacity.table_columns.LABELS`. ``setting`` is the JSON
        of each ``field`` of the records that differs between runs. Runs with fewer replicates or
        other attributes than the table has are padded with NaN and the seed ``NO_REPLICATE``.
    """
    if not measurements:
        raise UserError("a table needs at least one measurement, got none")
    runs_and_rows = [_row(measurement) for measurement in measurements]
    rows = [row for _, row in runs_and_rows]
    num_replicates = max(row.sizes["replicate"] for row in rows)
    attributes = list(dict.fromkeys(name for row in rows for name in row["attribute"].values))
    table: xr.Dataset = xr.concat(
        [
            row.reindex(
                replicate=np.arange(num_replicates),
                attribute=attributes,
                fill_value={
                    "seed": NO_REPLICATE,
                    "num_tokens": 0,
                    "diverged": False,
                    "divergence": "",
                },
            )
            for row in rows
        ],
        dim="measurement",
        data_vars="all",
        join="exact",
        coords="minimal",
        compat="override",
        combine_attrs="override",
    )
    names = list(experiments)
    laws = sorted({law for label in experiments.values() for law in label.laws})
    table = table.assign_coords(experiment=names, law=np.array(laws, dtype=int))
    table["member"] = (
        ("experiment", "measurement"),
        np.array([[name in m.experiments for m in measurements] for name in names]),
    )
    table["informs"] = (
        ("experiment", "law"),
        np.array(
            [[law in label.laws for law in laws] for label in experiments.values()], dtype=bool
        ).reshape(len(names), len(laws)),
    )
    fields, values = varied_settings([run for run, _ in runs_and_rows])
    table = table.assign_coords(field=np.array(fields, dtype=object))
    table["setting"] = (("measurement", "field"), values)
    table["scale"] = ("experiment", np.array([e.scale for e in experiments.values()], dtype=object))
    for name, (units, long_name) in LABELS.items():
        table[name].attrs = {"long_name": long_name} | ({"units": units} if units else {})
    return table.assign_attrs(Conventions="CF-1.11", format=files.FORMAT)


def replicates(table: xr.Dataset, *, with_diverged: bool = False) -> pd.DataFrame:
    """Rows of replicates: one for each seed and learning rate of each measurement.

    Laws, figures and report read replicates by this function only, so those that diverged are
    never part of a mean.

    Parameters
    ----------
    table
        As returned by :func:`build_table`.
    with_diverged
        Include replicates that diverged, with NaN for bits, and the columns ``diverged`` and
        ``divergence``.

    Returns
    -------
    pd.DataFrame
        The columns in :data:`~knowcap.capacity.table_columns.LABELS` of measurements and
        replicates, ``max_bits`` and ``max_capacity_ratio``; ``bits`` and ``capacity_ratio`` in
        the plain scoring, and with ``_strict`` or ``_in_context`` appended in the others;
        ``capacity_ratio_of_values``, that of all terms but the names, in the plain scoring.
    """
    columns = [
        name
        for name, variable in table.data_vars.items()
        if variable.dims in {("measurement",), ("measurement", "replicate")}
    ]
    frame = table[columns].to_dataframe()
    for quantity in ("bits", "capacity_ratio"):
        for scoring in table["scoring"].values:
            suffix = "" if scoring == "plain" else f"_{scoring}"
            values = table[quantity].sel(scoring=scoring, drop=True)
            frame[f"{quantity}{suffix}"] = values.to_series().reindex(frame.index)
    values = table["bits_by_term"].sel(scoring="plain", drop=True).drop_sel(term="name").sum("term")
    of_values = values.where(table["seed"] != NO_REPLICATE) / table["num_params"]
    frame["capacity_ratio_of_values"] = of_values.to_series().reindex(frame.index)
    frame = frame.reset_index().drop(columns="replicate")
    frame = frame[frame["seed"] != NO_REPLICATE]
    if not with_diverged and "diverged" in frame:
        frame = frame[~frame["diverged"].astype(bool)].drop(columns=list(DIVERGED_COLUMNS))
    return frame.reset_index(drop=True)


def _row(measurement: MeasurementFiles) -> tuple[Run, xr.Dataset]:
    """Run and variables of one measurement."""
    run_file, run, facts, losses = read_measurement(measurement)
    counts = run_file["num_params"]
    num_params = counts["total"]
    divergence = divergence_of_replicates(run, run_file)
    has_diverged = np.array([text != "" for text in divergence])
    # Bits of diverged replicates are NaN, whatever their losses are.
    complexity = bit_complexity(fill_replicates(losses, has_diverged, 0), facts)
    complexity = fill_replicates(complexity, has_diverged, np.nan)
    row = complexity.merge(capacity_ratio(complexity, num_params), combine_attrs="drop_conflicts")
    row = row.drop_vars(["seed", "lr"], errors="ignore")
    values = describe_run(run) | describe_training(measurement.run)
    values |= {
        "run": measurement.run.name,
        "precision": losses.attrs["precision"],
        "corpus": run_file["corpus"],
        "num_params": num_params,
        "num_params_embedding": counts["embedding"] + counts.get("output_layer", 0),
        "num_params_active": counts.get("active", num_params),
        "bits_per_param": _quantization_value(losses, "effective_bits_per_param", math.nan),
        "share_quantised": _quantization_value(losses, "share_quantised", 0.0),
        "num_uncompensated": _quantization_value(losses, "num_uncompensated", 0.0),
        "train_iters": run_file["train_iters"],
        "num_evaluated": losses.sizes["person"],
        "names_per_person": (facts["num_names"] or math.nan) / facts["num_people"],
    }
    columns: dict[str, Any] = {
        "seed": ("replicate", losses["seed"].values),
        "lr": ("replicate", losses["lr"].values),
        "num_tokens": ("replicate", np.array(run_file["num_tokens"], dtype=np.int64)),
        "diverged": ("replicate", has_diverged),
        "divergence": ("replicate", np.array(divergence, dtype=object)),
    }
    for name, value in values.items():
        columns[name] = ((), np.array(value, dtype=object if isinstance(value, str) else None))
    # All columns in one call: every single assignment would check the whole dataset again.
    return run, row.assign(columns).assign_coords(
        replicate=np.arange(losses.sizes["replicate"]),
        measurement=f"{measurement.run.name}/{losses.attrs['precision']}",
    )


def _quantization_value(losses: xr.Dataset, name: str, default: float) -> float:
    """Value that quantisation saved as a variable or an attribute, else a default."""
    return float(losses[name].mean() if name in losses else losses.attrs.get(name, default))
