"""Comparisons leave out what a machine cannot compare, and say why."""

import pytest

from knowcap_benchmarks.training import obstacle


@pytest.mark.parametrize("name", ["plain", "plain-bf16"])
def test_all_are_measured_where_bfloat16_is_fast(name):
    assert obstacle(name, {"float32": 100.0, "bfloat16": 200.0}) is None


def test_bfloat16_is_left_out_where_it_is_emulated():
    emulated = {"float32": 100.0, "bfloat16": 5.0}
    assert obstacle("plain-bf16", emulated) == (
        "bfloat16 is emulated here: 5 GFLOP/s, 100 in float32"
    )
    assert obstacle("plain", emulated) is None
