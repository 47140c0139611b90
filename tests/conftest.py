"""A small study as text, so that tests can edit it as a user would; and settings of all tests."""

import gc
import os
from pathlib import Path

import pytest

from tests.scheduling import (  # noqa: F401, hooks of pytest
    pytest_collection_modifyitems,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)

# Read when numpy and torch are imported, later. Every worker of pytest-xdist has a core; with a
# thread for each core, threads of one worker wait for a core that another one uses.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imported libraries are a million objects that each collection visits, and none of them is freed.
gc.set_threshold(100_000, 50, 50)

STUDY = """\
study: tiny
results: results
evaluation: {num_people: 50, seed: 0}

x-scale: &scale
  corpus:
    knowledge:
      kind: bioD
      num_people: 20
      num_attributes: 4
      num_chunks: 2
      diversity: 16
      chunk_length: 1
      alphabet_size: 16
      layout: compact
      seed: 0
    tokenizer: word
  architecture:
    family: GPT2
    size: 2-2
    kv_channels: 8
    rotary_percent: 0.25
    rotary_base: 10000
    init_method_std: 0.02
  optimization:
    exposures: 20
    seq_length: 16
    global_batch_size: 4
    lr_warmup_fraction: 0.05
    min_lr_fraction: 0.1
    weight_decay: 0.02
    adam_beta1: 0.9
    adam_beta2: 0.98
    adam_eps: 1.0e-6
    clip_grad: 1.0
    dtype: float32
  replicates: {seeds: [0, 1], lr: [1.0e-3]}

experiments:
  many:
    laws: [1]
    scale: scale model
    precisions: [trained]
    run: *scale
    grid:
      - {corpus.knowledge.num_people: [20, 30], architecture.size: [2-1, 2-2]}
      - {corpus.knowledge.num_people: 40}
  few:
    laws: [4]
    scale: scale model
    precisions: [trained]
    run: *scale
    grid:
      - {optimization.exposures: 2}
"""


@pytest.fixture
def study_text() -> str:
    """The text of a study of six runs."""
    return STUDY


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    """A study file of six runs."""
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path
