"""One labelled table of a study: what every measured model stores, beside what it is.

Rows are measurements (a run in a precision) and their replicates (a seed at a learning rate).
Everything that follows, the laws, the figures and the report, reads this table and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import ValidationError

from knowcap.artifacts import files, identity
from knowcap.capacity.complexity import bit_complexity, capacity_ratio
from knowcap.capacity.table_columns import LABELS, NO_REPLICATE, cost, description
from knowcap.config import Run
from knowcap.config.study import Study
from knowcap.errors import UserError, first_error


@dataclass(frozen=True)
class Measurement:
    """Where the files of one measured run are."""

    run: Path
    """Folder with ``run.json`` and, if noted, ``timing.json`` and ``provenance.json``."""
    losses: Path
    """The file ``losses.nc``."""
    corpus: Path
    """Folder with ``corpus.json``."""
    experiments: tuple[str, ...]
    """Experiments of the study that ask for this measurement."""


@dataclass(frozen=True)
class ExperimentLabel:
    """What an experiment is for."""

    laws: tuple[int, ...]
    """Numbers of the laws it informs."""
    scale: str
    """Within which scale they are judged."""


def write_study_table(
    study: Study, table_path: Path, index_path: Path, *, measured_only: bool = False
) -> None:
    """Write the table of a study from its results, of all its measurements or of those there are.

    Raises
    ------
    UserError
        As :func:`write_table` does.
    """
    results = Path(study.results)
    questions = {name: set(each.measurements()) for name, each in study.experiments.items()}
    measurements = []
    for run, precision in study.measurements():
        losses = identity.losses_path(study, run, precision)
        measurements.append(
            Measurement(
                run=losses.parents[1],
                losses=losses,
                corpus=results / "corpora" / identity.corpus_name(run.corpus),
                experiments=tuple(n for n, asked in questions.items() if (run, precision) in asked),
            )
        )
    if measured_only:
        measurements = [each for each in measurements if each.losses.exists()]
    labels = {
        name: ExperimentLabel(experiment.laws, experiment.scale)
        for name, experiment in study.experiments.items()
    }
    write_table(measurements, labels, table_path, index_path)


def write_table(
    measurements: Sequence[Measurement],
    experiments: Mapping[str, ExperimentLabel],
    table_path: Path,
    index_path: Path,
) -> None:
    """Write the table of a study as netCDF, and its replicates as CSV.

    Raises
    ------
    UserError
        If a file is missing or damaged, or losses are not of the run and corpus beside them.
    """
    table = build_table(measurements, experiments)
    files.write_dataset(table, table_path)
    index = replicates(table)
    experiments_of = {
        name: " ".join(table["experiment"].values[member])
        for name, member in zip(table["measurement"].values, table["member"].T.values, strict=True)
    }
    index.insert(1, "experiments", index["measurement"].map(experiments_of))
    files.write_text(index_path, index.to_csv(index=False, float_format="%.10g"))


def build_table(
    measurements: Sequence[Measurement], experiments: Mapping[str, ExperimentLabel]
) -> xr.Dataset:
    """Table of a study.

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
        ``law``. In bits: ``bits``, ``bits_by_term``, ``bits_by_attribute`` and their ``max_``;
        in bits per parameter ``capacity_ratio`` and ``max_capacity_ratio``; and the columns of
        :data:`~knowcap.capacity.table_columns.LABELS`. Runs with fewer replicates or other attributes
        than the table has are padded with NaN, and with the seed ``NO_REPLICATE``.
    """
    if not measurements:
        raise UserError("a table needs at least one measurement, this study has none")
    rows = [_row(measurement) for measurement in measurements]
    num_replicates = max(row.sizes["replicate"] for row in rows)
    attributes = list(dict.fromkeys(name for row in rows for name in row["attribute"].values))
    table = xr.concat(
        [
            row.reindex(
                replicate=np.arange(num_replicates),
                attribute=attributes,
                fill_value={"seed": NO_REPLICATE, "num_tokens": 0},
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
    table = table.assign_coords(experiment=names, law=laws)
    table["member"] = (
        ("experiment", "measurement"),
        np.array([[name in m.experiments for m in measurements] for name in names]),
    )
    table["informs"] = (
        ("experiment", "law"),
        np.array([[law in label.laws for law in laws] for label in experiments.values()]),
    )
    table["scale"] = ("experiment", np.array([e.scale for e in experiments.values()], dtype=object))
    for name, (units, long_name) in LABELS.items():
        table[name].attrs = {"long_name": long_name} | ({"units": units} if units else {})
    return table.assign_attrs(Conventions="CF-1.11", format=files.FORMAT)


def replicates(table: xr.Dataset) -> pd.DataFrame:
    """One row for each replicate of each measurement, with what it stores as asked plainly.

    Returns
    -------
    pd.DataFrame
        The columns of :data:`~knowcap.capacity.table_columns.LABELS` that belong to a measurement or a
        replicate, ``bits``, ``capacity_ratio`` and these ``_strict`` and ``_in_context``,
        ``max_bits``, ``max_capacity_ratio``.
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
    frame = frame.reset_index().drop(columns="replicate")
    return frame[frame["seed"] != NO_REPLICATE].reset_index(drop=True)


def _row(measurement: Measurement) -> xr.Dataset:
    """Compute the table's contents for one measurement."""
    run_file = files.read_json(measurement.run / "run.json")
    run = _record(measurement.run / "run.json", run_file)
    facts = files.read_json(measurement.corpus / "corpus.json")
    losses = files.read_dataset(measurement.losses)
    _check_match(measurement, run, run_file, losses)
    counted = run_file["num_params"]
    num_params = counted["total"]
    known = bit_complexity(losses, facts)
    row = known.merge(capacity_ratio(known, num_params), combine_attrs="drop_conflicts")
    row = row.drop_vars(["seed", "lr"], errors="ignore")
    described = description(run) | cost(measurement.run)
    described |= {
        "run": measurement.run.name,
        "precision": losses.attrs["precision"],
        "corpus": run_file["corpus"],
        "num_params": num_params,
        "num_params_embedding": counted["embedding"] + counted.get("output_layer", 0),
        "num_params_active": counted.get("active", num_params),
        "bits_per_param": _noted(losses, "effective_bits_per_param", math.nan),
        "share_quantised": _noted(losses, "share_quantised", 0.0),
        "train_iters": run_file["train_iters"],
        "num_evaluated": losses.sizes["person"],
    }
    columns: dict[str, Any] = {
        "seed": ("replicate", losses["seed"].values),
        "lr": ("replicate", losses["lr"].values),
        "num_tokens": ("replicate", np.array(run_file["num_tokens"], dtype=np.int64)),
    }
    for name, value in described.items():
        columns[name] = ((), np.array(value, dtype=object if isinstance(value, str) else None))
    # In one go, as xarray looks through all there is for each that is assigned.
    return row.assign(columns).assign_coords(
        replicate=np.arange(losses.sizes["replicate"]),
        measurement=f"{measurement.run.name}/{losses.attrs['precision']}",
    )


def _record(path: Path, run_file: dict[str, Any]) -> Run:
    """The record of a run; refused if this version cannot read it, such as another's family."""
    try:
        return Run.model_validate_json(json.dumps(run_file["record"]))
    except ValidationError as error:
        raise UserError(f"{path}: record.{first_error(error)}") from None


def _check_match(
    measurement: Measurement, run: Run, run_file: dict[str, Any], losses: xr.Dataset
) -> None:
    """Refuse files that are not of one another."""
    if losses.attrs.get("run") != measurement.run.name:
        raise UserError(f"{measurement.losses}: losses of {losses.attrs.get('run')!r}")
    if run_file["corpus"] != measurement.corpus.name:
        raise UserError(
            f"{measurement.run}: trained on {run_file['corpus']}, not {measurement.corpus.name}"
        )
    pairs = tuple(zip(losses["seed"].values.tolist(), losses["lr"].values.tolist(), strict=True))
    if pairs != run.replicates.pairs:
        raise UserError(
            f"{measurement.losses}: replicates are {pairs}, the run has {run.replicates.pairs}"
        )


def _noted(losses: xr.Dataset, name: str, otherwise: float) -> float:
    """Read what quantisation noted down of how weights are stored."""
    return float(losses[name].mean() if name in losses else losses.attrs.get(name, otherwise))
