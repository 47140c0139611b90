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

from knowcap import identity, records
from knowcap.capacity.complexity import bit_complexity, capacity_ratio
from knowcap.config import Run
from knowcap.errors import UserError
from knowcap.study import Study, sentence

BIOD_SHAPE = ("num_attributes", "num_chunks", "diversity", "chunk_length", "alphabet_size")
"""K, C, D, L and T of bioD."""

ARCHITECTURE = (
    *("family", "variation", "num_layers", "num_attention_heads", "hidden_size"),
    *("tied", "gated", "activation", "normalization", "add_bias", "num_moe_experts"),
)
"""Of an architecture's fields and properties, those that are columns."""

NO_REPLICATE = -1
"""Seed of a place in the table where a run has no further replicate."""

LABELS: Mapping[str, tuple[str, str]] = {
    "run": ("", "run"),
    "precision": ("", "precision of the weights"),
    "corpus": ("", "corpus"),
    "kind": ("", "kind of knowledge"),
    "knowledge": ("", "shape of the knowledge"),
    "num_people": ("1", "people N"),
    "num_attributes": ("1", "attributes K of bioD"),
    "num_chunks": ("1", "chunks C of a value of bioD"),
    "diversity": ("1", "distinct chunks D of bioD"),
    "chunk_length": ("1", "tokens L of a chunk of bioD"),
    "alphabet_size": ("1", "tokens T of the alphabet of bioD"),
    "num_versions": ("1", "biographies of a person, 0 if every one is fresh"),
    "rewriter": ("", "writer of bioR"),
    "tokenizer": ("", "tokenizer"),
    "useful_share": ("1", "useful share of what is read"),
    "num_junk_people": ("1", "people that junk is about"),
    "domain_token": ("1", "whether a token stands before useful biographies"),
    "num_evaluated": ("1", "people asked"),
    "exposures": ("1", "exposures E"),
    "model": ("", "model"),
    "family": ("", "architecture"),
    "variation": ("", "what is not usual in the family"),
    "num_layers": ("1", "layers"),
    "num_attention_heads": ("1", "attention heads"),
    "hidden_size": ("1", "width"),
    "tied": ("1", "whether input and output embedding are one"),
    "gated": ("1", "whether MLPs are gated"),
    "activation": ("", "activation function"),
    "normalization": ("", "normalization"),
    "add_bias": ("1", "whether linear layers have biases"),
    "num_moe_experts": ("1", "experts of a layer, 0 if it is dense"),
    "num_params": ("1", "parameters P"),
    "num_params_embedding": ("1", "parameters of embedding and output layer"),
    "num_params_active": ("1", "parameters that a token uses"),
    "bits_per_param": ("bit/parameter", "bits that a parameter is stored in, NaN if not noted"),
    "share_quantised": ("1", "share of the parameters that are integers"),
    "train_iters": ("1", "steps of training"),
    "train_s": ("s", "time of training, all replicates"),
    "tokens_per_s": ("s-1", "tokens trained on per second, all replicates"),
    "num_threads": ("1", "threads, 0 where that was not noted"),
    "device": ("", "device"),
    "engine": ("", "what made the steps of training, one after the other"),
    "commit": ("", "commit of the code"),
    "code_digest": ("", "digest of the code that trained"),
    "versions": ("", "versions of the libraries"),
    "trained_at": ("", "time at which training ended"),
    "seed": ("", "seed, -1 where a run has no further replicate"),
    "lr": ("1", "peak learning rate"),
    "num_tokens": ("1", "tokens trained on"),
    "member": ("1", "whether a measurement belongs to an experiment"),
    "informs": ("1", "whether an experiment informs a law"),
    "scale": ("", "scale within which laws are judged"),
}
"""CF unit and long name of what stands beside the bits."""


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
    records.write_dataset(table, table_path)
    index = replicates(table)
    experiments_of = {
        name: " ".join(table["experiment"].values[member])
        for name, member in zip(table["measurement"].values, table["member"].T.values, strict=True)
    }
    index.insert(1, "experiments", index["measurement"].map(experiments_of))
    records.write_text(index_path, index.to_csv(index=False, float_format="%.10g"))


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
        :data:`LABELS`. Runs with fewer replicates or other attributes than the table has are
        padded with NaN, and with the seed ``NO_REPLICATE``.
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
    return table.assign_attrs(Conventions="CF-1.11", format=records.FORMAT)


def replicates(table: xr.Dataset) -> pd.DataFrame:
    """One row for each replicate of each measurement, with what it stores as asked plainly.

    Returns
    -------
    pd.DataFrame
        The columns of :data:`LABELS` that belong to a measurement or a replicate, ``bits``,
        ``capacity_ratio`` and these ``_strict`` and ``_in_context``, ``max_bits``,
        ``max_capacity_ratio``.
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
    run_file = records.read_json(measurement.run / "run.json")
    run = _record(measurement.run / "run.json", run_file)
    facts = records.read_json(measurement.corpus / "corpus.json")
    losses = records.read_dataset(measurement.losses)
    _check_match(measurement, run, run_file, losses)
    counted = run_file["num_params"]
    num_params = counted["total"]
    known = bit_complexity(losses, facts)
    row = known.merge(capacity_ratio(known, num_params), combine_attrs="drop_conflicts")
    row = row.drop_vars(["seed", "lr"], errors="ignore")
    described = description(run) | _cost(measurement.run)
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
        name: ((), np.array(value, dtype=object if isinstance(value, str) else None))
        for name, value in described.items()
    }
    columns |= {name: ("replicate", losses[name].values) for name in ("seed", "lr")}
    columns["num_tokens"] = ("replicate", np.array(run_file["num_tokens"], dtype=np.int64))
    row = row.assign(columns)  # in one go, as xarray looks through all there is for each
    return row.assign_coords(
        replicate=np.arange(losses.sizes["replicate"]),
        measurement=f"{measurement.run.name}/{losses.attrs['precision']}",
    )


def _record(path: Path, run_file: dict[str, Any]) -> Run:
    """The record of a run; refused if this version cannot read it, such as another's family."""
    try:
        return Run.model_validate_json(json.dumps(run_file["record"]))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: record.{field}: {sentence(first)}") from None


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


def description(run: Run) -> dict[str, Any]:
    """Describe a run in the table's columns."""
    corpus = run.corpus.model_dump(mode="json")
    knowledge = corpus["knowledge"]
    shape = {name: knowledge.get(name, np.nan) for name in BIOD_SHAPE}
    rewriter = _rewriter(knowledge.get("rewriter", ""))
    parts = [knowledge["num_people"], *(n for n in shape.values() if not np.isnan(n))]
    versions = 1 if knowledge["kind"] == "bioS-simple" else knowledge.get("num_versions") or 0
    parts += [rewriter] if rewriter else []
    parts += [f"{versions} versions"] if versions and knowledge["kind"] == "bioD" else []
    return {
        "kind": knowledge["kind"],
        "knowledge": f"{knowledge['kind']}({', '.join(map(str, parts))})",
        "num_people": knowledge["num_people"],
        **{name: float(number) for name, number in shape.items()},
        "num_versions": versions,
        "rewriter": rewriter,
        "tokenizer": corpus["tokenizer"],
        **_mixture(corpus.get("mixture")),
        "exposures": run.optimization.exposures,
        "model": run.architecture.label,
        **{name: getattr(run.architecture, name) for name in ARCHITECTURE},
    }


def _rewriter(rewriter: str | dict[str, Any]) -> str:
    """Name of who wrote bioR, a grammar or a language model."""
    return rewriter if isinstance(rewriter, str) else str(rewriter["model"])


def _mixture(mixture: dict[str, Any] | None) -> dict[str, Any]:
    """Describe the junk that is read too."""
    none = {"useful_share": 1.0, "num_junk_people": 0, "domain_token": False}
    return none if mixture is None else {name: mixture[name] for name in none}


def _engine(facts: dict[str, Any]) -> str:
    """Say in a few words what made steps: `lanes (num_lanes 8 + 4, num_parts 1)`."""
    divided = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "name")
    return f"{facts['name']} ({divided})" if divided else str(facts["name"])


def _cost(run: Path) -> dict[str, Any]:
    """Read what training took and on what, as far as it was noted down."""
    timing, provenance = (
        records.read_json(path) if path.exists() else {}
        for path in (run / "timing.json", run / "provenance.json")
    )
    git = provenance.get("git") or {}
    versions = {"Python": provenance.get("python")} | provenance.get("libraries", {})
    return {
        "train_s": float(timing.get("train_s", np.nan)),
        "tokens_per_s": float(timing.get("tokens_per_s", np.nan)),
        "num_threads": int(timing.get("num_threads", 0)),
        "device": str(provenance.get("gpu") or provenance.get("cpu", "")),
        "engine": ", then ".join(map(_engine, provenance.get("engines", []))),
        "commit": git.get("commit", "") + (" with changes" if git.get("dirty") else ""),
        "code_digest": str(provenance.get("code_digest", "")),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        "trained_at": str(provenance.get("end", "")),
    }
