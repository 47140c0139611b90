"""A small study to take apart, as text, so that a test can edit it as a user would.

And how workers share the tests: `pytest -n auto --dist loadgroup --no-loadscope-reorder`.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

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


LONGEST = ("slurm", "smoke", "accept")
"""Groups that everything else is shorter than."""


def pytest_xdist_auto_num_workers() -> int:
    """A worker for each core that this process may use, and one that waits for Slurm."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker have all tests that share a module's fixture, and the longest begin first.

    Otherwise each worker would make the fixture for itself.
    """
    for item in items:
        if _group(item) is None and _shares_fixtures(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    sizes = Counter(map(_group, items))

    def turn(item: pytest.Item) -> tuple[int, int]:
        group = _group(item)
        if group in LONGEST:
            return LONGEST.index(group), 0
        return len(LONGEST), -sizes[group] if group else 0

    items.sort(key=turn)


def _group(item: pytest.Item) -> str | None:
    mark = item.get_closest_marker("xdist_group")
    return None if mark is None else str(mark.args[0])


def _shares_fixtures(item: pytest.Item) -> bool:
    fixtures = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
    return any(each.scope == "module" for of_name in fixtures for each in of_name)
