"""Columns of a table that describe runs: dataset, architecture, training and its cost.

They come from the run's record and the files beside it. The columns with bits are computed in
:mod:`knowcap.capacity.bit_complexity`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from knowcap.artifacts import files
from knowcap.config import BioD, BioR, BioS, Corpus, Run, Table

BIOD_SHAPE = ("num_attributes", "num_chunks", "diversity", "chunk_length", "alphabet_size")
"""K, C, D, L and T of bioD."""

ARCHITECTURE = (
    *("num_layers", "num_attention_heads", "hidden_size"),
    *("tied", "gated", "activation", "normalization", "add_bias", "num_moe_experts"),
)
"""Fields and properties of an architecture that are columns."""

KNOWLEDGE_FIELDS = frozenset().union(*(record.model_fields for record in (BioS, BioR, BioD, Table)))
"""Fields of the kinds of knowledge that the name of a dataset shows, or does not depend on."""

NO_REPLICATE = -1
"""Seed that marks padding, where a run has fewer replicates than the table."""

LABELS: Mapping[str, tuple[str, str]] = {
    "run": ("", "run"),
    "precision": ("", "precision of the weights"),
    "corpus": ("", "corpus"),
    "kind": ("", "kind of dataset"),
    "knowledge": ("", "dataset"),
    "num_people": ("1", "people N"),
    "num_names": ("1", "possible names N0"),
    "population_seed": ("1", "seed of the names and values of the people"),
    "names_per_person": ("1", "possible names per person, N0 / N"),
    "num_attributes": ("1", "attributes K of bioD"),
    "num_chunks": ("1", "chunks C of a value of bioD"),
    "diversity": ("1", "distinct chunks D of bioD"),
    "chunk_length": ("1", "tokens L of a chunk of bioD"),
    "alphabet_size": ("1", "tokens T of the alphabet of bioD"),
    "num_versions": ("1", "biographies per person, 0 if every exposure is a new one"),
    "rewriter": ("", "writer of bioR"),
    "tokenizer": ("", "tokenizer"),
    "useful_share": ("1", "useful share of the training data"),
    "num_junk_people": ("1", "people in the junk"),
    "domain_token": ("1", "whether a domain token precedes useful biographies"),
    "mixture_unit": ("", "unit that is useful or junk: window or biography"),
    "num_evaluated": ("1", "people evaluated"),
    "exposures": ("1", "exposures E"),
    "optimizer": ("", "optimizer"),
    "model": ("", "model"),
    "family": ("", "architecture family"),
    "variation": ("", "modification of the architecture family"),
    "num_layers": ("1", "layers"),
    "num_attention_heads": ("1", "attention heads"),
    "hidden_size": ("1", "width"),
    "tied": ("1", "whether input and output embedding are tied"),
    "gated": ("1", "whether MLPs are gated"),
    "activation": ("", "activation function"),
    "normalization": ("", "normalization"),
    "add_bias": ("1", "whether linear layers have biases"),
    "num_moe_experts": ("1", "experts per layer, 0 for dense models"),
    "moe_router_topk": ("1", "experts that process each token, 0 for dense models"),
    "moe_expert_capacity_factor": ("1", "largest load of an expert per mean load in training"),
    "num_params": ("1", "parameters P"),
    "num_params_embedding": ("1", "parameters of embedding and output layer"),
    "num_params_active": ("1", "parameters active for a token"),
    "bits_per_param": ("bit/parameter", "stored bits per parameter, NaN if unknown"),
    "share_quantised": ("1", "share of the parameters that are integers"),
    "num_uncompensated": ("1", "matrices of a model that GPTQ rounded to nearest"),
    "train_iters": ("1", "training steps"),
    "train_s": ("s", "training time of all replicates"),
    "tokens_per_s": ("s-1", "training tokens per second, of all replicates"),
    "num_threads": ("1", "threads, 0 if unknown"),
    "device": ("", "device"),
    "engine": ("", "engines that computed the training steps, in order"),
    "commit": ("", "commit of the code"),
    "code_digest": ("", "digest of the training code"),
    "versions": ("", "versions of Python and libraries"),
    "trained_at": ("", "time when training ended"),
    "seed": ("", "seed, -1 for padding"),
    "lr": ("1", "peak learning rate"),
    "num_tokens": ("1", "training tokens"),
    "diverged": ("1", "whether training diverged"),
    "divergence": ("", "step and likely causes of the divergence"),
    "member": ("1", "whether a measurement belongs to an experiment"),
    "setting": ("", "settings that differ between the runs, as JSON"),
    "informs": ("1", "whether an experiment informs a law"),
    "scale": ("", "scale within which laws are tested"),
}
"""CF unit and long name of each column."""

TABLE_VARIABLES = ("capacity_ratio", *LABELS)
"""Variables of a table. Tables of other versions lack some and are refused."""


def describe_run(run: Run) -> dict[str, Any]:
    """Columns from the record of a run: dataset, corpus, exposures and architecture."""
    return {
        **describe_corpus(run.corpus),
        "exposures": run.optimization.exposures,
        "optimizer": run.optimization.optimizer,
        "model": run.architecture.label,
        "family": run.architecture.family,
        "variation": run.architecture.preset_overrides,
        **{name: getattr(run.architecture, name) for name in ARCHITECTURE},
        "moe_router_topk": run.architecture.moe_router_topk or 0,
        "moe_expert_capacity_factor": run.architecture.moe_expert_capacity_factor or np.inf,
    }


def describe_corpus(record: Corpus) -> dict[str, Any]:
    """Columns from the record of a corpus: dataset, tokenizer and junk."""
    corpus = record.model_dump(mode="json")
    knowledge = corpus["knowledge"]
    shape = {name: knowledge.get(name, np.nan) for name in BIOD_SHAPE}
    table = [knowledge["sha256"][:8]] if knowledge["kind"] == "table" else []
    rewriter = _rewriter(knowledge.get("rewriter", ""))
    parts = [knowledge["num_people"], *table, *(n for n in shape.values() if not np.isnan(n))]
    versions = 1 if knowledge["kind"] == "bioS-simple" else knowledge.get("num_versions") or 0
    parts += [f"+{attribute['name']}" for attribute in knowledge.get("extra_attributes", ())]
    parts += [f"{name}={knowledge[name]}" for name in knowledge if name not in KNOWLEDGE_FIELDS]
    parts += [rewriter] if rewriter else []
    parts += [f"{versions} versions"] if versions and knowledge["kind"] == "bioD" else []
    return {
        "kind": knowledge["kind"],
        "knowledge": f"{knowledge['kind']}({', '.join(map(str, parts))})",
        "num_people": knowledge["num_people"],
        "num_names": record.knowledge.num_names or np.nan,
        "population_seed": knowledge.get("seed", 0),
        **{name: float(number) for name, number in shape.items()},
        "num_versions": versions,
        "rewriter": rewriter,
        "tokenizer": corpus["tokenizer"],
        **_mixture(corpus.get("mixture")),
    }


def _rewriter(rewriter: str | dict[str, Any]) -> str:
    """Writer of bioR: `grammar` or the name of a language model."""
    return rewriter if isinstance(rewriter, str) else str(rewriter["model"])


def _mixture(mixture: dict[str, Any] | None) -> dict[str, Any]:
    """Columns of the junk mixed into the corpus."""
    if mixture is None:
        mixture = {"useful_share": 1.0, "num_junk_people": 0, "domain_token": False, "unit": ""}
    columns = {name: mixture[name] for name in ("useful_share", "num_junk_people", "domain_token")}
    return columns | {"mixture_unit": mixture.get("unit", "window")}


def describe_training(run: Path) -> dict[str, Any]:
    """Columns from ``timing.json`` and ``provenance.json``; empty or NaN if they are missing."""
    timing, provenance = (
        files.read_json(path) if path.exists() else {}
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


def _engine(facts: dict[str, Any]) -> str:
    """Name and settings of an engine: `simd (num_lanes 8 + 4)`."""
    settings = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "name")
    return f"{facts['name']} ({settings})" if settings else str(facts["name"])
