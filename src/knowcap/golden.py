"""Golden traces: what a stage makes of a few tiny runs, and what a refactor may therefore keep.

An artefact is named by the code that made it, so any edit of the training code names all models
anew. When old and new code provably do the same, that would cost a cluster its year for nothing.
`knowcap accept` runs both on this machine, compares their golden traces bit for bit, and only
then records that results of the old code stand for results of the new.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from knowcap import identity, records
from knowcap.config import Evaluation, Run
from knowcap.errors import UserError
from knowcap.identity import Stage

TRACED: tuple[Stage, ...] = ("corpus", "train", "evaluate", "quantize")
"""Stages whose results are dear enough to be kept by decision."""

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
    from knowcap.bios.corpus import write_corpus

    write_corpus(run.corpus, folder / "corpus")
    if stage == "corpus":
        return _sha256(*(path.read_bytes() for path in sorted((folder / "corpus").iterdir())))
    from knowcap.lm.train import train

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
    from knowcap.lm.evaluate import ANSWERS, evaluate

    if stage == "quantize":
        from knowcap.lm.quantize import ANSWERS

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
        losses = records.read_dataset(folder / "losses.nc")
        numbers += (losses[name].values.tobytes() for name in sorted(map(str, losses.data_vars)))
    return _sha256(*numbers)


def _weights(path: Path) -> list[bytes]:
    import torch

    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return [state[name].numpy().tobytes() for name in sorted(state)]


def _sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def accept(stage: Stage, revision: str, reason: str) -> str:
    """Let results of an older code of a stage stand for results of the code as it is now.

    Parameters
    ----------
    stage
        One of :data:`TRACED`.
    revision
        Git revision of the older code.
    reason
        Why the code was changed; recorded with the decision.

    Returns
    -------
    str
        A line that says what was decided.

    Raises
    ------
    UserError
        If the golden traces differ, or there is nothing to decide.
    """
    if stage not in TRACED:
        raise UserError(f"{stage}: has no golden trace, its results are cheap; {TRACED} have")
    repository = identity.PACKAGE.parents[1]
    with tempfile.TemporaryDirectory() as folder:
        older = Path(folder) / "older"
        _git(repository, "worktree", "add", "--detach", str(older), revision)
        try:
            before = _traced(older / "src", stage)
        finally:
            _git(repository, "worktree", "remove", "--force", str(older))
    now = _traced(repository / "src", stage)
    if before["code"] == now["code"]:
        raise UserError(f"{stage}: its code is the same as in {revision}, nothing to decide")
    if before["trace"] != now["trace"]:
        raise UserError(
            f"{stage}: the golden traces differ from those of {revision}; results must be remade"
        )
    decision = {
        "stage": stage,
        "code": now["code"],
        "stands_for": before["code"],
        "trace": now["trace"],
        "date": date.today().isoformat(),
        "reason": reason,
    }
    decisions = json.loads(identity.EQUIVALENCES.read_text(encoding="utf-8"))
    records.write_text(identity.EQUIVALENCES, json.dumps([*decisions, decision], indent=2) + "\n")
    return f"{stage}: results of {before['code']} stand for {now['code']}"


def _git(repository: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")


def _traced(source: Path, stage: Stage) -> dict[str, Any]:
    """Code digest and golden trace of a stage in another checkout of this package."""
    done = subprocess.run(
        [sys.executable, "-m", "knowcap", "trace", stage],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{source}: no golden trace ({done.stderr.strip().splitlines()[-1]})")
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def trace(stage: Stage) -> str:
    """Code digest and golden trace of a stage, as JSON."""
    return json.dumps({"code": identity.code_digest(stage), "trace": golden_trace(stage)})
