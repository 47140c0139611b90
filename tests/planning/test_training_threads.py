"""Threads of trainings: one each, and all cores where too few trainings are left to fill them."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from knowcap.artifacts.files import read_json
from knowcap.config import Run
from knowcap.planning.cost import relative_time
from knowcap.planning.training_threads import (
    MIN_STEP_TOKENS,
    SHARE_OF_TWO_THREADS,
    speedup,
    training_threads,
)
from knowcap_benchmarks.cases import Case
from knowcap_benchmarks.interleave import ratio
from knowcap_benchmarks.threads import SIDE_BY_SIDE, TOGETHER
from tests.support.tiny import tiny_run

REPOSITORY = Path(__file__).parents[2]


def big_run(exposures: int, seed: int = 0, num_windows: int = 64) -> Run:
    """A run with enough tokens a step for several threads."""
    return tiny_run(
        optimization__exposures=exposures,
        optimization__global_batch_size=num_windows,
        optimization__seq_length=max(512, MIN_STEP_TOKENS // num_windows),
        replicates__seeds=(seed,),
    )


def equal_runs(number: int) -> list[Run]:
    return [big_run(1000, seed) for seed in range(number)]


@pytest.mark.parametrize(("number", "num_wide"), [(1, 1), (2, 0), (3, 1), (4, 0), (5, 1), (8, 0)])
def test_only_a_training_without_a_neighbour_gets_both_cores(number: int, num_wide: int) -> None:
    threads = training_threads(equal_runs(number), 2)
    assert sorted(threads.values()) == [1] * (number - num_wide) + [2] * num_wide


def test_the_longest_training_gets_both_cores_if_it_is_longer_than_all_others() -> None:
    runs = [big_run(exposures) for exposures in (100, 10_000, 200)]
    assert training_threads(runs, 2)[runs[1]] == 2


def test_one_core_gives_one_thread() -> None:
    assert set(training_threads(equal_runs(3), 1).values()) == {1}


def test_trainings_with_small_steps_get_one_thread() -> None:
    run = tiny_run(replicates__seeds=tuple(range(1000)))
    assert run.optimization.global_batch_size * run.optimization.seq_length < MIN_STEP_TOKENS
    assert training_threads([run], 4) == {run: 1}


def test_the_speed_of_two_threads_is_that_of_the_kept_measurements() -> None:
    kept = read_json(REPOSITORY / "results/reference/two-cores/benchmarks/threads.json")
    shares = []
    for shape in kept["shapes"]:
        case = Case.model_validate(shape["case"])
        together, apart = (
            [each["tokens_per_s"] for each in shape["rounds"][name]]
            for name in (TOGETHER, SIDE_BY_SIDE)
        )
        share = ratio(together, apart).median
        if case.step_tokens >= MIN_STEP_TOKENS:
            shares.append(share)
        else:
            assert share < 0.75
    assert statistics.mean(shares) == pytest.approx(SHARE_OF_TWO_THREADS, abs=0.01)


def test_a_training_has_at_most_as_many_threads_as_windows() -> None:
    run = big_run(1000, num_windows=3)  # of two replicates
    assert training_threads([run], 8) == {run: 6}


def test_two_threads_have_the_measured_speed() -> None:
    assert speedup(1) == 1
    assert speedup(2) == pytest.approx(2 * SHARE_OF_TWO_THREADS)
    assert speedup(4) < 4 * SHARE_OF_TWO_THREADS


@pytest.mark.parametrize("exposures", [(10, 5, 2, 1), (10, 3, 2, 1), (7, 7, 7), (9, 1), (4, 4, 3)])
def test_no_other_choice_of_the_longest_ends_earlier(exposures: tuple[int, ...]) -> None:
    runs = [big_run(1000 * number, seed) for seed, number in enumerate(exposures)]
    wide = {run for run, number in training_threads(runs, 2).items() if number == 2}

    def end(choice: set[Run]) -> float:
        rest = [relative_time(run) for run in runs if run not in choice]
        halves = [
            max(sum(half), sum(rest) - sum(half))
            for size in range(len(rest) + 1)
            for half in itertools.combinations(rest, size)
        ]
        return sum(map(relative_time, choice)) / speedup(2) + min(halves)

    by_length = sorted(runs, key=relative_time, reverse=True)
    best = min(end(set(by_length[:number])) for number in range(len(runs) + 1))
    assert end(wide) == pytest.approx(best)
