"""Files of a measurement, and their readers: digests first, then whether they belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr
from pydantic import ValidationError

from knowcap.artifacts import files, identity, manifest
from knowcap.config import Precision, Run
from knowcap.config.study import Study
from knowcap.errors import UserError, record_errors


@dataclass(frozen=True)
class PlannedMeasurement:
    """A measurement as the study defines it."""

    run: Run
    precision: Precision
    num_evaluated: int
    """People whose losses are evaluated."""


@dataclass(frozen=True)
class MeasurementFiles:
    """Paths of the files of one measurement."""

    run: Path
    """Folder with ``run.json`` and, optionally, ``timing.json`` and ``provenance.json``."""
    losses: Path
    """The file ``losses.nc``."""
    corpus: Path
    """Folder with ``corpus.json``."""
    experiments: tuple[str, ...]
    """Experiments of the study that include this measurement."""
    planned: PlannedMeasurement | None = None
    """Contents that the files must have; None if there is no study."""


class Measurement(NamedTuple):
    """Contents of the files of a measurement."""

    run_file: dict[str, Any]
    """``run.json``."""
    run: Run
    """The record in it."""
    facts: dict[str, Any]
    """``corpus.json``."""
    losses: xr.Dataset


def study_measurements(study: Study) -> Iterator[MeasurementFiles]:
    """Yield the files of every distinct measurement of a study."""
    members: dict[str, set[tuple[Run, Precision]]] = {
        name: set(experiment.measurements()) for name, experiment in study.experiments.items()
    }
    for run, precision in study.measurements():
        losses = identity.losses_path(study, run, precision)
        yield MeasurementFiles(
            run=losses.parents[1],
            losses=losses,
            corpus=Path(study.results) / "corpora" / identity.corpus_name(run.corpus),
            experiments=tuple(name for name, own in members.items() if (run, precision) in own),
            planned=PlannedMeasurement(
                run,
                precision,
                min(study.evaluation.num_people, run.corpus.knowledge.num_people),
            ),
        )


def read_measurement(measurement: MeasurementFiles) -> Measurement:
    """Read the files of a measurement.

    Raises
    ------
    UserError
        If a file is missing or damaged, or if files do not belong together.
    """
    manifest.verify(measurement.run, ["run.json"], optional=["timing.json", "provenance.json"])
    run_file = files.read_json(measurement.run / "run.json")
    run = _record(measurement.run / "run.json", run_file)
    manifest.verify(measurement.corpus, ["corpus.json"])
    facts = files.read_json(measurement.corpus / "corpus.json")
    losses = files.read_dataset(measurement.losses)
    _check_match(measurement, run, run_file, losses)
    _check_planned(measurement, run, losses)
    return Measurement(run_file, run, facts, losses)


def _record(path: Path, run_file: dict[str, Any]) -> Run:
    """Record of a run.

    Raises
    ------
    UserError
        If this version cannot read it, for example a family that no longer exists.
    """
    try:
        return Run.model_validate_json(json.dumps(run_file["record"]))
    except ValidationError as error:
        lines = (f"{path}: record.{line}" for line in record_errors(error))
        raise UserError.of_lines(lines) from None


def _check_match(
    measurement: MeasurementFiles, run: Run, run_file: dict[str, Any], losses: xr.Dataset
) -> None:
    """Raise a UserError if losses, run and corpus do not belong together."""
    if losses.attrs.get("run") != measurement.run.name:
        raise UserError(
            f"{measurement.losses}: these are losses of {losses.attrs.get('run')!r}, "
            f"not of {measurement.run.name!r}"
        )
    if run_file["corpus"] != measurement.corpus.name:
        raise UserError(
            f"{measurement.run}: trained on {run_file['corpus']}, not on {measurement.corpus.name}"
        )
    pairs = tuple(zip(losses["seed"].values.tolist(), losses["lr"].values.tolist(), strict=True))
    if pairs != run.replicates.pairs:
        raise UserError(
            f"{measurement.losses}: (seed, lr) of the replicates are {pairs}, "
            f"those of the run are {run.replicates.pairs}"
        )


def _check_planned(measurement: MeasurementFiles, run: Run, losses: xr.Dataset) -> None:
    """Raise a UserError if files are whole but not those that the study defines."""
    planned = measurement.planned
    if planned is None:
        return
    if run != planned.run:
        raise UserError(f"{measurement.run}: another run than the study has under this name")
    found = (losses.attrs["precision"], losses.sizes["person"])
    expected = (planned.precision, planned.num_evaluated)
    if found != expected:
        raise UserError(
            f"{measurement.losses}: losses in precision {found[0]} of {found[1]} people, but the "
            f"study has {expected[0]} and {expected[1]}; delete it to make it again"
        )
