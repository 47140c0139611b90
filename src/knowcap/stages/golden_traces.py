"""Golden traces: the outputs of the corpus, train, evaluate and quantize stages for tiny runs.

:mod:`knowcap.artifacts.equivalences` compares the traces of two versions of the code.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from knowcap.artifacts import files
from knowcap.artifacts.code_digest import Stage, code_digest
from knowcap.artifacts.manifest import MANIFEST_FILE
from knowcap.config import Evaluation, Precision, Run
from knowcap.stages.precisions import PRECISION_BACKENDS

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
_COMPACT_BIOD = {"knowledge": {**_BIOD, "layout": "compact"}, "tokenizer": "word"}
_MIXTURE = {"useful_share": 0.25, "num_junk_people": 100, "domain_token": True}
_BIOR = {"kind": "bioR", "num_people": 8, "num_versions": 3, "rewriter": "grammar", "seed": 0}


_MOE = {
    "num_moe_experts": 4,
    "moe_router_topk": 2,
    "moe_expert_capacity_factor": 1.5,
    "moe_eval_capacity_factor": 2.0,
    "moe_aux_loss_coeff": 0.01,
}

_ARCHITECTURES: Mapping[str, Mapping[str, object]] = {
    "GPT2": {},
    "GPT2_0": {"family": "GPT2_0"},
    "LLaMA": {"family": "LLaMA"},
    "Mistral": {"family": "Mistral", "size": "2-4"},
    "MoE": _MOE,
}


def _run(
    corpus: Mapping[str, object],
    seq_length: int,
    dtype: str = "float32",
    **architecture: object,
) -> Run:
    return Run.model_validate(
        {
            "corpus": corpus,
            "architecture": {**_ARCHITECTURE, **architecture},
            "optimization": {**_OPTIMIZATION, "seq_length": seq_length, "dtype": dtype},
            "replicates": {"seeds": [0, 1], "lr": [1e-3, 4e-3]},
        }
    )


def _bios(kind: str, tokenizer: str, seq_length: int = 128) -> Run:
    knowledge = {"kind": kind, "num_people": 8, "seed": 0}
    return _run({"knowledge": knowledge, "tokenizer": tokenizer}, seq_length)


def _with_document_mask(run: Run) -> Run:
    optimization = run.optimization.model_copy(update={"reset_attention_mask": True})
    return run.model_copy(update={"optimization": optimization})


GOLDEN_RUNS: Mapping[str, Run] = {
    "bioS": _bios("bioS", "GPT2"),
    "bioS, Mistral's tokenizer": _bios("bioS", "Mistral", 144),
    "bioS-simple": _bios("bioS-simple", "word"),
    "bioR": _run({"knowledge": _BIOR, "tokenizer": "GPT2"}, 128),
    "bioD sentences": _run(
        {"knowledge": {**_BIOD, "layout": "sentences"}, "tokenizer": "word"}, 96
    ),
    "bioD, 2 versions": _run(
        {"knowledge": {**_BIOD, "layout": "compact", "num_versions": 2}, "tokenizer": "word"}, 19
    ),
    "bioD with junk": _run({**_COMPACT_BIOD, "mixture": _MIXTURE}, 20),
    "width 64": _run(_COMPACT_BIOD, 19, kv_channels=32),
    "document mask": _with_document_mask(_run(_COMPACT_BIOD, 38)),
    **{
        f"{label}, {dtype}": _run(_COMPACT_BIOD, 19, dtype, **architecture)
        for label, architecture in _ARCHITECTURES.items()
        # The SIMD engine trains tiny models in float32, the stacked model those in bfloat16.
        for dtype in ("float32", "bfloat16")
    },
}
"""Runs of a few dozen steps, with every kind of corpus and architecture and both CPU engines.

Code that no golden run executes is not compared: `knowcap accept` needs a run here for every field
that affects results. Windows are as long as the longest biography needs."""


QUANTIZED_RUNS = (
    *("bioS", "bioD with junk", "width 64"),
    *("GPT2, float32", "LLaMA, float32", "Mistral, float32", "MoE, float32"),
)
"""Golden runs that are quantised: every architecture, and both kinds of calibration windows."""


class GoldenOutput(TypedDict):
    """One file or array that a stage computes for a golden run."""

    sha256: str
    """Digest of its bytes. Equal only on the same machine with the same library versions."""
    values: list[float]
    """Its numbers; empty for a file of a corpus."""


class GoldenTrace(TypedDict):
    """The outputs of a stage for all golden runs."""

    code: str
    """Digest of the stage's code."""
    outputs: dict[str, GoldenOutput]
    """By golden run, precision and name of the file or array."""


def golden_traces(stages: Sequence[Stage]) -> dict[Stage, GoldenTrace]:
    """Make the corpora, trainings and evaluations of the golden runs and return their outputs."""
    traces: dict[Stage, GoldenTrace] = {
        stage: {"code": code_digest(stage), "outputs": {}} for stage in stages
    }
    for label, run in GOLDEN_RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            wanted = [s for s in stages if s != "quantize" or label in QUANTIZED_RUNS]
            for stage, name, output in _outputs(run, Path(folder), wanted):
                traces[stage]["outputs"][f"{label}, {name}"] = output
    return traces


def golden_traces_json(stages: Sequence[Stage]) -> str:
    """Return the golden traces of some stages as JSON."""
    return json.dumps(golden_traces(stages))


def _outputs(
    run: Run, folder: Path, stages: Sequence[Stage]
) -> Iterator[tuple[Stage, str, GoldenOutput]]:
    """Yield stage, name and value of each output of a run, computing only what `stages` need."""
    from knowcap.data.corpus_writer import write_corpus

    write_corpus(run.corpus, folder / "corpus")
    if "corpus" in stages:
        for path in sorted({*(folder / "corpus").iterdir()} - {folder / "corpus" / MANIFEST_FILE}):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield "corpus", path.name, {"sha256": digest, "values": []}
    if set(stages) <= {"corpus"}:
        return
    from knowcap.training.train import train

    train(
        run,
        corpus_folder=folder / "corpus",
        output_folder=folder / "run",
        scratch_folder=folder / "scratch",
        num_threads=1,
        code_digest="",
    )
    if "train" in stages:
        for name, weights in _weights(folder / "run" / "model.pt"):
            yield "train", name, _array_output(weights)
    for precision, backend in PRECISION_BACKENDS.items():
        if backend.stage in stages:
            for name, losses in _losses(folder, precision):
                yield backend.stage, f"{precision}, {name}", _array_output(losses)


def _weights(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    import torch

    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    for name in sorted(state):
        yield name, state[name].numpy()


def _losses(folder: Path, precision: Precision) -> Iterator[tuple[str, NDArray[np.float64]]]:
    from knowcap.evaluation.evaluate import evaluate

    evaluate(
        run_folder=folder / "run",
        corpus_folder=folder / "corpus",
        precision=precision,
        evaluation=Evaluation(num_people=8, seed=0),
        output=folder / "losses.nc",
        backend=PRECISION_BACKENDS[precision].load(),
        num_threads=1,
    )
    losses = files.read_dataset(folder / "losses.nc")
    for name in sorted(map(str, losses.data_vars)):
        yield name, losses[name].values


def _array_output(array: NDArray[np.float32] | NDArray[np.float64]) -> GoldenOutput:
    return {
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        "values": array.ravel().tolist(),
    }
