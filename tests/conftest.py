"""A small study to take apart, as text, so that a test can edit it as a user would.

And how workers share the tests (`pytest -n auto`).
"""

import os
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

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
    return STUDY


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


LONGEST = (
    "tests/slurm/test_slurm.py",
    "tests/workflow/test_smoke.py",
    "tests/workflow/test_accept.py",
    "tests/engines/test_megatron.py",
)
"""Files that everything else is shorter than: they come first."""

DEALT_OUT = (
    "tests/capacity/laws/test_estimators.py",
    "tests/capacity/laws/test_laws.py",
    "tests/workflow/test_plan.py",
)
"""Files of many tests that share nothing: they come last, each test to the next free worker."""


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Scheduling(LoadScopeScheduling):
    """One worker has all tests of a file, which share its fixtures; the others would make them too.

    The groups of `--dist loadgroup` would say the same, but xdist 3.8 loses them with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = _file(nodeid)
        return nodeid if file in DEALT_OUT else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Deal out files in the order in which they come."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """A worker for each core that this process may use, and one that waits for Slurm."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, and end with what can be dealt out."""
    turns = {file: number - len(LONGEST) for number, file in enumerate(LONGEST)}
    turns |= dict.fromkeys(DEALT_OUT, 1)
    items.sort(key=lambda item: turns.get(_file(item.nodeid), 0))
