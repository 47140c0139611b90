"""One training on all threads beside trainings of one thread each."""

from __future__ import annotations

import pytest

from knowcap.artifacts.files import read_json, write_json
from knowcap_benchmarks import run_benchmark, threads
from knowcap_benchmarks.cases import speed_case
from knowcap_benchmarks.tables import all_tables, load_results

CASE = speed_case(1, 64, 4, 16)


def test_both_ways_are_measured_and_become_a_table(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "SHAPES", (("knowcap", CASE),))
    path = tmp_path / "threads.json"
    write_json(path, run_benchmark("threads", None, None, 2, rounds=1, seconds=0.1))
    (shape,) = read_json(path)["shapes"]
    (together,), (apart,) = shape["rounds"][threads.TOGETHER], shape["rounds"][threads.SIDE_BY_SIDE]
    assert together["tokens_per_s"] > 0
    text = all_tables(load_results([path]))
    ratio = together["tokens_per_s"] / apart["tokens_per_s"]
    assert f"| {CASE.title} | knowcap | " in text
    assert f" | {ratio:.2f} ({ratio:.2f} to {ratio:.2f}) |" in text


def test_speeds_of_trainings_side_by_side_are_added(monkeypatch):
    speeds = iter((100.0, 120.0, 130.0))
    monkeypatch.setattr(threads, "run_worker", lambda request: {"tokens_per_s": next(speeds)})
    rounds = threads._measure(CASE, "knowcap", 2, rounds=1, seconds=0)
    assert rounds[threads.TOGETHER] == [{"tokens_per_s": 100.0}]
    assert rounds[threads.SIDE_BY_SIDE] == [{"tokens_per_s": 250.0}]


def test_a_failure_is_shown_as_not_a_number(monkeypatch):
    monkeypatch.setattr(threads, "run_worker", lambda request: {"failed": "no compiler"})
    rounds = threads._measure(CASE, "knowcap", 2, rounds=1, seconds=0)
    assert rounds[threads.SIDE_BY_SIDE] == [{"failed": "no compiler"}]


@pytest.mark.parametrize("implementation", [each for each, _ in threads.SHAPES])
def test_compared_implementations_exist(implementation):
    from knowcap_benchmarks.implementations import IMPLEMENTATIONS

    assert implementation in IMPLEMENTATIONS
