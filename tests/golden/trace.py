"""A training of 20 steps, to be compared with the one recorded in train.jsonl."""

import json
from pathlib import Path

from knowcap.data.corpus_writer import write_corpus
from knowcap.training.train import train
from tests.support.tiny import tiny_run

TRACE = Path(__file__).parent / "train.jsonl"


def trace(folder: Path) -> str:
    """Losses and gradient norms of each replicate, a JSON line for each step."""
    run = tiny_run(
        optimization__exposures=2, optimization__seq_length=10, optimization__global_batch_size=5
    )
    write_corpus(run.corpus, folder / "corpus")
    train(run, folder / "corpus", folder / "run", folder / "scratch")
    metrics = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    kept = ("iteration", "loss_nats", "grad_norm", "lr")
    lines = ({name: line[name] for name in kept} for line in map(json.loads, metrics))
    return "".join(json.dumps(line) + "\n" for line in lines)
