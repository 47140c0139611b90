"""GPUs, nodes and attempts of a training follow from its operations."""

from __future__ import annotations

import pytest

from knowcap.config import Run
from knowcap.errors import UserError
from knowcap.planning.gpus_by_size import (
    MIN_TOKENS_PER_GPU,
    GpuSettings,
    gpu_seconds,
    gpu_settings,
    max_attempts,
    num_gpus,
    resources_by_size,
)
from tests.support.tiny import tiny_run

SETTINGS = GpuSettings(tflops_per_gpu=1, target_hours=1, gpus_per_node=8, max_gpus=64)


def run_of_hours(hours: float, global_batch_size: int = 2**20) -> Run:
    """A run that takes about some hours on one GPU, with enough tokens for many GPUs."""
    changes = {
        "architecture__kv_channels": 512,
        "architecture__num_layers": 100,
        "optimization__global_batch_size": global_batch_size,
    }
    small = tiny_run(**changes)
    factor = hours * 3600 / gpu_seconds(small, SETTINGS)
    return tiny_run(**changes, optimization__exposures=round(factor * small.optimization.exposures))


@pytest.mark.parametrize(
    ("hours", "gpus", "nodes"),
    [(0.5, 1, 1), (1.5, 2, 1), (3.9, 4, 1), (7, 8, 1), (9, 16, 2), (60, 64, 8), (1000, 64, 8)],
)
def test_a_training_has_the_fewest_gpus_that_reach_the_target(
    hours: float, gpus: int, nodes: int
) -> None:
    mpi = "srun" if nodes > 1 else ""
    expected = {"gpu": gpus, "nodes": nodes, "tasks": nodes, "mpi": mpi}
    assert resources_by_size(run_of_hours(hours), SETTINGS) == expected


def test_nodes_are_filled_before_there_are_several() -> None:
    settings = SETTINGS._replace(gpus_per_node=6, max_gpus=24)
    assert [num_gpus(run_of_hours(hours), settings) for hours in (3, 5, 7, 100)] == [4, 6, 12, 24]


def test_a_gpu_has_a_least_number_of_tokens_of_a_step() -> None:
    seq_length = tiny_run().optimization.seq_length
    windows = 5 * MIN_TOKENS_PER_GPU // seq_length
    assert num_gpus(run_of_hours(1000, windows), SETTINGS) == 4
    assert num_gpus(run_of_hours(1000, 1), SETTINGS) == 1


def test_attempts_are_twice_those_that_are_needed_and_some_to_spare() -> None:
    # 25 hours on 32 GPUs take 47 minutes.
    assert max_attempts(run_of_hours(25), SETTINGS, limit_minutes=100) == 2 + 4
    assert max_attempts(run_of_hours(630), SETTINGS, limit_minutes=65) == 2 * 10 + 4


def test_a_speed_and_its_companions_are_given_together() -> None:
    assert gpu_settings({"gpu": 1, "runtime": 60}) is None
    assert gpu_settings({**SETTINGS._asdict(), "runtime": 60}) == SETTINGS
    with pytest.raises(UserError) as error:
        gpu_settings({"tflops_per_gpu": 0, "max_gpus": "many", "target_hours": True})
    assert str(error.value).splitlines() == [
        "train: gpus_per_node: missing",
        "train: tflops_per_gpu: 0 is not allowed: an integer of at least 1 is required",
        "train: target_hours: true is not allowed: an integer of at least 1 is required",
        "train: max_gpus: 'many' is not allowed: an integer of at least 1 is required",
    ]
