"""Rounds are interleaved, ratios are within rounds, and what fails says so."""

import pytest

from knowcap.errors import UserError
from knowcap_benchmarks import measure
from knowcap_benchmarks.cases import CASES
from knowcap_benchmarks.growth import exponent
from knowcap_benchmarks.interleave import Request, ask, interleaved, order, ratio
from knowcap_benchmarks.machine import describe

CORPUS = {
    "knowledge": {"kind": "bioS", "num_people": 20, "seed": 0},
    "tokenizer": "word",
}
RENDERING = Request("rendering", {"corpus": CORPUS, "exposures": 2, "seconds": 0.0}, 1)
UNKNOWN = Request("rendering", {"corpus": {}, "exposures": 2, "seconds": 0.0}, 1)


def test_each_round_begins_with_another() -> None:
    assert [order("abc", number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_a_ratio_is_taken_within_rounds() -> None:
    assert ratio([10.0, 40.0, 90.0], [10.0, 20.0, 30.0]) == (2.0, 1.0, 3.0)


def test_a_measurement_is_made_in_a_process_of_its_own() -> None:
    answer = ask(RENDERING)
    assert answer["tokens_per_s"] > 0
    assert answer["num_tokens"] > 20 * 2 * 30
    assert 2**24 < answer["peak_bytes"] < 2**32


def test_what_fails_says_why_and_is_not_asked_again() -> None:
    answers = interleaved({"good": [RENDERING] * 2, "bad": [UNKNOWN] * 2})
    assert all("tokens_per_s" in answer for answer in answers["good"])
    assert answers["bad"][0] is answers["bad"][1]
    assert set(answers["bad"][0]) == {"failed"}
    assert answers["bad"][0]["failed"]


def test_the_environment_of_a_measurement_reaches_it() -> None:
    broken = RENDERING._replace(environment={"PYTHONHOME": "/nowhere"})
    assert "failed" in ask(broken)


def test_exponents_are_of_the_upper_half_where_fixed_costs_fade() -> None:
    sizes = [1.0, 10.0, 100.0, 1000.0]
    assert exponent(sizes, [3 * size for size in sizes]) == pytest.approx(1)
    assert exponent(sizes, [size**2 for size in sizes]) == pytest.approx(2)
    assert exponent(sizes, [5, 5, 50, 500]) == pytest.approx(1)
    assert exponent([1.0], [1.0]) is None


def test_a_machine_is_described() -> None:
    machine = describe(1, "cpu", ["numpy", "nothing-of-this-name"])
    assert machine["packages"]["nothing-of-this-name"] is None
    assert machine["packages"]["numpy"]
    assert machine["products_gflops"]["float32"] > 0
    assert machine["processor"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("training-of-dogs", "none of training-2-64"),
        ("commands", "--command"),
        ("stages", "--study"),
    ],
)
def test_what_cannot_be_measured_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        measure(name, None, None, num_threads=1, rounds=1, seconds=1)


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_a_comparison_on_a_gpu_needs_one() -> None:
    assert CASES["gpu-2-2"].device == "cuda"
    with pytest.raises(UserError, match="needs a GPU"):
        measure("gpu-2-2", None, None, num_threads=1, rounds=1, seconds=1)
