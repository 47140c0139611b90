"""The columns of a table that say what a model is, what it was taught and what training took.

They are read from its record and from what was noted down beside it; the bits are
:mod:`knowcap.capacity.complexity`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from knowcap.artifacts import files
from knowcap.config import Run

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


def describe_run(run: Run) -> dict[str, Any]:
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


def describe_training(run: Path) -> dict[str, Any]:
    """Read what training took and on what, as far as it was noted down."""
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
    """Say in a few words what made steps: `lanes (num_lanes 8 + 4, num_parts 1)`."""
    divided = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "name")
    return f"{facts['name']} ({divided})" if divided else str(facts["name"])
