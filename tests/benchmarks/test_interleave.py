"""Interleaved rounds, worker processes, and errors of benchmark options."""

import pytest

from knowcap.errors import UserError
from knowcap_benchmarks import run_benchmark
from knowcap_benchmarks.cases import CASES
from knowcap_benchmarks.growth import growth_exponent
from knowcap_benchmarks.interleave import (
    Request,
    ratio,
    round_order,
    run_interleaved,
    run_worker,
)
from knowcap_benchmarks.machine import describe_machine, with_load_after

CORPUS = {
    "knowledge": {"kind": "bioS", "num_people": 20, "seed": 0},
    "tokenizer": "word",
}
RENDERING = Request("rendering", {"corpus": CORPUS, "exposures": 2, "seconds": 0.0}, 1)
INVALID = Request("rendering", {"corpus": {}, "exposures": 2, "seconds": 0.0}, 1)


def test_each_round_starts_with_another_implementation() -> None:
    assert [round_order("abc", number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_ratios_are_taken_within_rounds() -> None:
    assert ratio([10.0, 40.0, 90.0], [10.0, 20.0, 30.0]) == (2.0, 1.0, 3.0)


def test_a_worker_process_measures_rendering() -> None:
    result = run_worker(RENDERING)
    assert result["tokens_per_s"] > 0
    assert result["num_tokens"] > 20 * 2 * 30
    assert 2**24 < result["peak_bytes"] < 2**32


def test_a_failed_measurement_keeps_its_reason_and_is_not_repeated() -> None:
    results = run_interleaved({"good": [RENDERING] * 2, "bad": [INVALID] * 2})
    assert all("tokens_per_s" in result for result in results["good"])
    assert results["bad"][0] is results["bad"][1]
    assert set(results["bad"][0]) == {"failed"}
    assert results["bad"][0]["failed"]


def test_a_worker_gets_the_environment_of_its_request() -> None:
    broken = RENDERING._replace(environment={"PYTHONHOME": "/nowhere"})
    assert "failed" in run_worker(broken)


def test_growth_exponents_use_the_upper_half_of_the_sizes() -> None:
    sizes = [1.0, 10.0, 100.0, 1000.0]
    assert growth_exponent(sizes, [3 * size for size in sizes]) == pytest.approx(1)
    assert growth_exponent(sizes, [size**2 for size in sizes]) == pytest.approx(2)
    assert growth_exponent(sizes, [5, 5, 50, 500]) == pytest.approx(1)
    assert growth_exponent([1.0], [1.0]) is None


def test_a_machine_is_described_by_processor_packages_and_speed() -> None:
    machine = describe_machine(1, "cpu", ["numpy", "nothing-of-this-name"])
    assert machine["packages"]["nothing-of-this-name"] is None
    assert machine["packages"]["numpy"]
    assert machine["products_gflops"]["float32"] > 0
    assert machine["processor"]
    assert with_load_after(machine).keys() - machine.keys() == {"load_after"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("training-of-dogs", "allowed are training-2-64"),
        ("commands", "--command"),
        ("stages", "run stages STUDY"),
    ],
)
def test_a_wrong_name_or_missing_option_is_a_user_error(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_benchmark(name, None, None, num_threads=1, rounds=1, seconds=1)


@pytest.mark.parametrize(("rounds", "threads"), [(0, 1), (1, 0)])
def test_rounds_and_threads_are_at_least_one(rounds: int, threads: int) -> None:
    with pytest.raises(UserError, match="must be at least 1"):
        run_benchmark("growth", None, None, num_threads=threads, rounds=rounds, seconds=1)


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_a_gpu_comparison_without_a_gpu_is_a_user_error() -> None:
    assert CASES["gpu-2-2"].device == "cuda"
    with pytest.raises(UserError, match="needs a GPU"):
        run_benchmark("gpu-2-2", None, None, num_threads=1, rounds=1, seconds=1)
