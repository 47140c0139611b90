"""Files as training and evaluation write them, of simulated models with known capacity."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from knowcap.artifacts import files, manifest
from knowcap.capacity.measurement_files import MeasurementFiles
from knowcap.capacity.table import ExperimentLabel, write_table
from knowcap.config import Run

BIOS_ATTRIBUTES = {
    "birth_date": 67200,
    "birth_city": 200,
    "university": 300,
    "major": 100,
    "employer": 263,
    "gender": 2,
}


def bios_facts(num_people: int) -> dict[str, Any]:
    return {
        "format": 1,
        "num_people": num_people,
        "num_names": 400 * 400 * 1000,
        "attributes": [
            {"name": name, "cardinality": size} for name, size in BIOS_ATTRIBUTES.items()
        ],
        "diversity": None,
    }


def biod_facts(
    num_people: int, shape: tuple[int, int, int, int, int] = (4, 2, 256, 1, 256)
) -> dict[str, Any]:
    """Facts of bioD(N, K, C, D, L, T); `shape` is (K, C, D, L, T)."""
    num_attributes, num_chunks, diversity, chunk_length, alphabet_size = shape
    return {
        "format": 1,
        "num_people": num_people,
        "num_names": alphabet_size**3,
        "attributes": [
            {"name": f"ID {k}", "cardinality": diversity**num_chunks}
            for k in range(1, num_attributes + 1)
        ],
        "diversity": {
            "num_attributes": num_attributes,
            "num_chunks": num_chunks,
            "diversity": diversity,
            "chunk_length": chunk_length,
            "alphabet_size": alphabet_size,
        },
    }


def oracle(
    facts: dict[str, Any],
    shares: Sequence[float] | np.ndarray = (1.0,),
    *,
    num_evaluated: int = 5,
    lr: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
) -> xr.Dataset:
    """Losses of replicates that know a share of every fact: 1 everything, 0 nothing."""
    shares = np.asarray(shares, dtype=float)
    unknown = 1 - shares[:, None] * np.ones(num_evaluated)
    names = [attribute["name"] for attribute in facts["attributes"]]
    nats = np.array([math.log(attribute["cardinality"]) for attribute in facts["attributes"]])
    ln_people, ln_names = math.log(facts["num_people"]), math.log(facts["num_names"])
    name = ln_people + unknown * (ln_names - ln_people)
    value = unknown[..., None] * nats
    dims = ("replicate", "person", "attribute")
    losses = xr.Dataset(
        {
            "name_loss": (dims[:2], name),
            "name_loss_strict": (dims[:2], name + 0.01),
            "name_loss_in_window": (dims[:2], name + 0.02),
            "name_loss_given_useful": (dims[:2], name + 0.03),
            "value_loss": (dims, value),
            "value_loss_strict": (dims, value + 0.01),
            "value_loss_in_context": (dims, value * 0.9),
            "value_loss_chain_rule": (dims, value * 0.95),
        },
        coords={
            "attribute": names,
            "person": np.arange(num_evaluated),
            "seed": ("replicate", list(seeds or range(len(shares)))),
            "lr": ("replicate", list(lr or [1e-3] * len(shares))),
        },
        attrs={"format": 1, "run": "some-run", "precision": "trained"},
    )
    if facts["diversity"]:
        shape = facts["diversity"]
        strings = shape["chunk_length"] * math.log(shape["alphabet_size"])
        chunk = unknown[..., None] * (strings - math.log(shape["diversity"])) * np.ones(len(nats))
        losses["first_chunk_loss"] = (dims, chunk)
    return losses


def gpt2_params(num_layers: int, hidden_size: int, vocab_size: int = 3275) -> int:
    """Number of parameters of a tied GPT2 with biases and norms."""
    d = hidden_size
    return vocab_size * d + num_layers * (12 * d * d + 13 * d) + 2 * d


@dataclass
class SimulatedResults:
    """A results folder to which runs are added."""

    folder: Path

    def __post_init__(self) -> None:
        self.measurements: list[MeasurementFiles] = []

    def add(
        self,
        ratios: Sequence[float],
        *,
        experiments: Sequence[str] = ("base",),
        kind: str = "bioS",
        num_people: int = 1000,
        exposures: int = 1000,
        size: tuple[int, int] = (2, 2),
        kv_channels: int = 64,
        family: str = "GPT2",
        seeds: Sequence[int] | None = None,
        lr: Sequence[float] = (1e-3,),
        provenance: bool = True,
        diverged: Sequence[dict[str, Any]] = (),
        num_metrics: int = 0,
    ) -> MeasurementFiles:
        """Write a run whose replicates store `ratios` bits per parameter, up to R_max."""
        facts = bios_facts(num_people) if kind.startswith("bioS") else biod_facts(num_people)
        seeds = list(seeds if seeds is not None else range(len(ratios) // len(lr)))
        run = _run(kind, num_people, exposures, size, kv_channels, family, seeds, lr)
        num_params = gpt2_params(size[0], run.architecture.hidden_size)
        max_bits = num_people * (
            math.log2(facts["num_names"] / num_people)
            + sum(math.log2(a["cardinality"]) for a in facts["attributes"])
        )
        shares = np.asarray(ratios) * num_params / max_bits
        assert shares.max() <= 1, f"R_max is {max_bits / num_params}"
        slug = f"{run.architecture.label}-{kind}-N{num_people}-E{exposures}"
        name = f"{slug}-{len(self.measurements)}"
        corpus = self.folder / "corpora" / f"{kind}-N{num_people}"
        files.write_json(corpus / "corpus.json", facts)
        manifest.write(corpus, ["corpus.json"])
        run_folder = self.folder / "runs" / name
        facts_of_run = run_file(run, corpus.name, num_params) | {"diverged": list(diverged)}
        files.write_json(run_folder / "run.json", facts_of_run)
        if provenance:
            files.write_json(
                run_folder / "timing.json",
                {"train_s": 61.5, "device": "cpu", "tokens_per_s": 52000.0, "num_threads": 1},
            )
            files.write_json(
                run_folder / "provenance.json",
                {
                    "git": {"commit": "0123abcdef", "dirty": True},
                    "libraries": {"torch": "2.13.0"},
                    "python": "3.11.7",
                    "cpu": "Processor 9000",
                    "gpu": None,
                    "engines": [
                        {"name": "simd", "num_lanes": "8 + 4", "num_parts": 1},
                        {"name": "stacked"},
                    ],
                    "code_digest": "00aa11bb22cc",
                    "end": "2026-01-02T03:04:05+00:00",
                },
            )
        if num_metrics:
            lines = [metrics_line(step, num_metrics, len(ratios)) for step in range(num_metrics)]
            files.write_text(run_folder / "metrics.jsonl", "".join(lines))
        manifest.write(run_folder, sorted(path.name for path in run_folder.glob("*.json*")))
        pairs = run.replicates.pairs
        losses = oracle(
            facts, shares, seeds=[seed for seed, _ in pairs], lr=[rate for _, rate in pairs]
        ).assign_attrs(run=name)
        files.write_dataset(losses, run_folder / "trained-0" / "losses.nc")
        measurement = MeasurementFiles(
            run=run_folder, losses=run_folder / "trained-0" / "losses.nc", corpus=corpus,
            experiments=tuple(experiments),
        )  # fmt: skip
        self.measurements.append(measurement)
        return measurement

    def add_precision(
        self, measurement: MeasurementFiles, precision: str, bits: float, share: float
    ) -> None:
        """Add a measurement of a run in another precision, with the same losses."""
        losses = files.read_dataset(measurement.losses)
        path = measurement.run / f"{precision}-0" / "losses.nc"
        attrs = {"effective_bits_per_param": bits, "share_quantised": share}
        files.write_dataset(losses.assign_attrs(precision=precision, **attrs), path)
        self.measurements.append(replace(measurement, losses=path))

    def table(self, **experiments: ExperimentLabel) -> Path:
        """Write the table of all added measurements and return its path."""
        labels = experiments or {"base": ExperimentLabel(laws=(1,), scale="simulated")}
        path = self.folder / "study" / "capacity.nc"
        write_table(self.measurements, labels, path, path.with_name("index.csv"))
        return path


def _run(
    kind: str,
    num_people: int,
    exposures: int,
    size: tuple[int, int],
    kv_channels: int,
    family: str,
    seeds: Sequence[int],
    lr: Sequence[float],
) -> Run:
    knowledge: dict[str, Any] = {"kind": kind, "num_people": num_people, "seed": 0}
    if kind == "bioD":
        knowledge |= {
            "num_attributes": 4, "num_chunks": 2, "diversity": 256, "chunk_length": 1,
            "alphabet_size": 256, "layout": "compact",
        }  # fmt: skip
    return Run.model_validate(
        {
            "corpus": {
                "knowledge": knowledge,
                "tokenizer": "word" if kind == "bioD" else "GPT2",
            },
            "architecture": {
                "family": family, "size": f"{size[0]}-{size[1]}", "kv_channels": kv_channels,
                "rotary_percent": 0.25, "rotary_base": 10000, "init_method_std": 0.02,
            },
            "optimization": {
                "exposures": exposures, "seq_length": 512, "global_batch_size": 8,
                "lr_warmup_iters": 10, "min_lr_fraction": 0.1, "weight_decay": 0.01,
                "adam_beta1": 0.9, "adam_beta2": 0.98, "adam_eps": 1e-6, "clip_grad": 1.0,
                "dtype": "float32",
            },
            "replicates": {"seeds": tuple(seeds), "lr": tuple(lr)},
        }
    )  # fmt: skip


def metrics_line(step: int, num_steps: int, num_replicates: int) -> str:
    """Metrics of a step; the loss falls from 5 nats by 3, and by a little more with replicates."""
    loss = 5 - 3 * step / num_steps
    losses = [round(loss - 0.1 * replicate, 6) for replicate in range(num_replicates)]
    return json.dumps({"iteration": 10 * (step + 1), "loss_nats": losses}) + "\n"


def run_file(run: Run, corpus: str, num_params: int) -> dict[str, Any]:
    count = len(run.replicates.pairs)
    return {
        "format": 1,
        "record": run.model_dump(mode="json"),
        "corpus": corpus,
        "num_params": {"embedding": num_params // 2, "total": num_params},
        "train_iters": 4000,
        "num_tokens": [1_000_000] * count,
    }
