"""Options of a training from the resources of a profile, and checks of these resources."""

import pytest

from knowcap.errors import UserError
from knowcap.planning.profile import (
    check_parallel_sizes,
    time_budget_s,
    train_options,
)
from tests.support.tiny import tiny_run


def test_resources_are_options_in_a_fixed_order() -> None:
    resources = {"gpu": 8, "nodes": 2, "mem_mb": 1000, "_cores": 1}
    assert train_options(resources) == ["--nodes", "2", "--gpus", "8"]


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 0), (10, 540), (20, 1080), (600, 35_700)])
def test_a_tenth_of_a_time_limit_is_kept_for_starting_and_saving(
    minutes: int, seconds: int
) -> None:
    assert time_budget_s(minutes) == seconds
    assert train_options({"runtime": minutes}) == ["--time-budget-s", str(seconds)]


def test_gpus_that_nodes_cannot_share_evenly_are_refused() -> None:
    with pytest.raises(UserError, match=r"^train: --gpus: 3 "):
        check_parallel_sizes({"nodes": 2, "gpu": 3}, [])


def test_sizes_that_do_not_divide_a_model_are_refused() -> None:
    with pytest.raises(UserError, match=r"^train: --tensor-parallel: 3 "):
        check_parallel_sizes({"processes": 3, "tensor_parallel": 3}, [tiny_run()])


def test_sizes_that_a_profile_computes_for_each_job_are_left_to_the_job() -> None:
    check_parallel_sizes({"processes": "3 if attempt > 1 else 1", "gpu": 3, "nodes": 2}, [])
