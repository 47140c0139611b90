"""Processes and time limits that a profile gives a training: options, not names."""

import pytest

from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.workflow


def test_the_number_of_processes_changes_no_name(finished: Checkout) -> None:
    assert finished.planned("--set-resources", "train:processes=2") == {}


def test_parallel_sizes_that_do_not_divide_a_model_are_refused(checkout: Checkout) -> None:
    options = ("train:processes=3", "train:tensor_parallel=3")
    done = checkout.snakemake("-n", "--set-resources", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("train: --tensor-parallel: 3 ")


def test_processes_and_time_limit_are_options_of_the_training(checkout: Checkout) -> None:
    resources = ("train:nodes=2", "train:gpu=4", "train:runtime=10")
    done = checkout.snakemake("-n", "-p", "--set-resources", *resources)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--nodes 2 --gpus 4 --time-budget-s 540 >") == 6


def test_without_a_time_limit_a_training_has_no_time_budget(checkout: Checkout) -> None:
    assert "--time-budget-s" not in checkout.snakemake("-n", "-p").stdout
