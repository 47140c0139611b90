"""Order of the tests, and how the workers of pytest-xdist share them (`pytest -n auto`).

pytest-xdist has groups of its own (`--dist loadgroup`), but version 3.8 loses them with pytest 9.2:
the tests of a group go to different workers.
"""

from __future__ import annotations

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

LONGEST = (
    "tests/slurm/test_slurm.py",
    "tests/campaign/test_kills.py",
    "tests/workflow/test_smoke.py",
    "tests/ideas/test_pages.py",
    "tests/campaign/test_two_checkouts.py",
    "tests/campaign/test_long_haul.py",
    "tests/campaign/test_full_disk.py",
    "tests/workflow/test_two_users.py",
    "tests/workflow/test_tutorial.py",
    "tests/workflow/test_accept.py",
    "tests/capacity/test_figures.py",
    "tests/engines/test_megatron.py",
)
"""Files that take longest: they come first."""

SPLIT = (
    "tests/capacity/laws/test_estimators.py",
    "tests/capacity/laws/test_laws.py",
    "tests/capacity/laws/test_settings.py",
    "tests/ideas/test_pages.py",
    "tests/workflow/test_plan.py",
    "tests/workflow/test_start.py",
    "tests/workflow/test_two_users.py",
)
"""Long files whose tests share no fixtures: each test goes to the next free worker. Those that are
not among the longest come last, so that all workers end together."""

SLOW = (
    "tests/capacity/test_figures.py",
    "tests/capacity/laws/test_estimators.py",
    "tests/capacity/laws/test_laws.py",
    "tests/capacity/laws/test_settings.py",
    "tests/capacity/laws/test_adversarial_worlds.py",
    "tests/capacity/laws/test_verdicts.py",
    "tests/data/test_bior_language_model.py",
    "tests/model/test_cross_entropy.py",
    "tests/data/test_retokenized_corpus.py",
    "tests/data/test_text_folder.py",
    "tests/model/test_transformers_model.py",
)
"""Files that `make test-fast` leaves out of its folders: 15 seconds of a CPU and more."""


class FileScheduling(LoadScopeScheduling):
    """Scheduler that gives all tests of a file to one worker, as they share fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file in SPLIT else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling:
    """Return the scheduler; files keep the order of :func:`pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker for each usable core, and one more that mostly waits for Slurm."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests; sort all, the longest files first, other files that are split last."""
    for item in items:
        if item.nodeid.partition("::")[0] in SLOW:
            item.add_marker(pytest.mark.slow)
    position = dict.fromkeys(SPLIT, 1)
    position |= {file: number - len(LONGEST) for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: position.get(item.nodeid.partition("::")[0], 0))
