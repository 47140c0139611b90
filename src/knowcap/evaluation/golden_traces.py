"""Golden traces: digests of what a stage makes of a few tiny runs."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from knowcap.artifacts import files
from knowcap.artifacts.code_digest import Stage, code_digest
from knowcap.config import Evaluation, Run

_OPTIMIZATION = {
    "exposures": 20,
    "global_batch_size": 2,
    "lr_warmup_fraction": 0.1,
    "min_lr_fraction": 0.1,
    "weight_decay": 0.02,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_eps": 1e-6,
    "clip_grad": 1.0,
}
_ARCHITECTURE = {
    "family": "GPT2",
    "size": "2-2",
    "kv_channels": 8,
    "rotary_percent": 0.25,
    "rotary_base": 10000,
    "init_method_std": 0.02,
}
_BIOD = {
    "kind": "bioD",
    "num_people": 8,
    "num_attributes": 3,
    "num_chunks": 2,
    "diversity": 6,
    "chunk_length": 2,
    "alphabet_size": 16,
    "seed": 0,
}
_CORPORA = (
    ({"knowledge": {**_BIOD, "layout": "compact"}, "tokenizer": "word"}, 19),
    ({"knowledge": {**_BIOD, "layout": "sentences"}, "tokenizer": "word"}, 96),
    ({"knowledge": {"kind": "bioS", "num_people": 8, "seed": 0}, "tokenizer": "GPT2"}, 128),
    (
        {
            "knowledge": {**_BIOD, "layout": "compact"},
            "tokenizer": "word",
            "mixture": {"useful_share": 0.25, "num_junk_people": 100, "domain_token": True},
        },
        20,
    ),
    (
        {
            "knowledge": {
                "kind": "bioR",
                "num_people": 8,
                "num_versions": 3,
                "rewriter": "grammar",
                "seed": 0,
            },
            "tokenizer": "GPT2",
        },
        128,
    ),
    ({"knowledge": {"kind": "bioS-simple", "num_people": 8, "seed": 0}, "tokenizer": "word"}, 128),
)
"""Corpora of every kind, and windows that hold their biographies."""

GOLDEN_RUNS = tuple(
    Run.model_validate(
        {
            "corpus": corpus,
            "architecture": _ARCHITECTURE,
            "optimization": {**_OPTIMIZATION, "seq_length": seq_length, "dtype": dtype},
            "replicates": {"seeds": [0, 1], "lr": [1e-3, 4e-3]},
        }
    )
    # Models so small train in lanes in float32; in bfloat16 the stacked model trains them.
    for (corpus, seq_length), dtype in [
        *((each, "float32") for each in _CORPORA),
        (_CORPORA[0], "bfloat16"),
    ]
)
"""Runs of a few dozen steps that together reach every branch of the code."""


def golden_trace(stage: Stage) -> list[str]:
    """What `stage` makes of each golden run, as a SHA-256 of every number in it.

    Bit-identical only on one machine with one version of every library.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [_trace(stage, run, Path(folder) / str(n)) for n, run in enumerate(GOLDEN_RUNS)]


def _trace(stage: Stage, run: Run, folder: Path) -> str:
    from knowcap.data.corpus import write_corpus

    write_corpus(run.corpus, folder / "corpus")
    if stage == "corpus":
        return _sha256(*(path.read_bytes() for path in sorted((folder / "corpus").iterdir())))
    from knowcap.training.train import train

    train(
        run,
        corpus_folder=folder / "corpus",
        output_folder=folder / "run",
        scratch_folder=folder / "scratch",
        num_threads=1,
        code_digest="",
    )
    if stage == "train":
        return _sha256(*_weights(folder / "run" / "model.pt"))
    from knowcap.evaluation.evaluate import ANSWERS, evaluate

    if stage == "quantize":
        from knowcap.evaluation.quantize import ANSWERS

    numbers: list[bytes] = []
    for precision in ANSWERS:
        evaluate(
            run_folder=folder / "run",
            corpus_folder=folder / "corpus",
            precision=precision,
            evaluation=Evaluation(num_people=8, seed=0),
            output=folder / "losses.nc",
            answers=ANSWERS,
            num_threads=1,
        )
        losses = files.read_dataset(folder / "losses.nc")
        numbers += (losses[name].values.tobytes() for name in sorted(map(str, losses.data_vars)))
    return _sha256(*numbers)


def _weights(path: Path) -> list[bytes]:
    import torch

    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return [state[name].numpy().tobytes() for name in sorted(state)]


def _sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def trace(stage: Stage) -> str:
    """Code digest and golden trace of a stage, as JSON."""
    return json.dumps({"code": code_digest(stage), "trace": golden_trace(stage)})
