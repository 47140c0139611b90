"""Processes and time limits that a profile gives a training: options, not names."""

import pytest

from tests.workflow.conftest import Checkout
from tests.workflow.test_plan import CORPUS

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
    assert done.stdout.count("--nodes 2 --gpus 4 --time-budget-s 540 --attempt 1 ") == 6


def test_without_a_time_limit_a_training_has_no_time_budget(checkout: Checkout) -> None:
    assert "--time-budget-s" not in checkout.snakemake("-n", "-p").stdout


BY_SIZE = ("tflops_per_gpu=200", "target_hours=144", "gpus_per_node=8", "max_gpus=64")


def test_gpus_and_attempts_follow_from_the_size_of_a_run(checkout: Checkout) -> None:
    resources = [f"train:{each}" for each in (*BY_SIZE, "runtime=10")]
    done = checkout.snakemake("-n", "-p", "--set-resources", *resources)
    assert done.returncode == 0, done.stderr
    options = "--nodes 1 --gpus 1 --time-budget-s 540 --max-attempts 6 --attempt 1 --refusal "
    assert done.stdout.count(options) == 6
    done = checkout.snakemake("-n", "-p", "--set-resources", *resources, "train:gpu=4")
    assert done.stdout.count("--nodes 1 --gpus 4 ") == 6


def test_an_incomplete_description_of_gpus_is_refused(checkout: Checkout) -> None:
    resources = [f"train:{each}" for each in BY_SIZE[1:]]
    done = checkout.snakemake("-n", "--set-resources", *resources)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "train: tflops_per_gpu: missing"


def test_every_profile_plans_the_study(checkout: Checkout) -> None:
    for profile in ("local", "gpu", "slurm", "slurm-paper"):
        checkout.copy(f"config/profiles/{profile}/config.yaml")
        assert checkout.planned("--profile", f"config/profiles/{profile}") == CORPUS
