"""Reasons to skip an implementation on a machine."""

import pytest

from knowcap_benchmarks.training import reason_to_skip


@pytest.mark.parametrize("name", ["plain", "plain-bf16"])
def test_no_implementation_is_skipped_where_bfloat16_is_fast(name: str) -> None:
    assert reason_to_skip(name, {"float32": 100.0, "bfloat16": 200.0}) is None


def test_bfloat16_is_skipped_where_it_is_emulated() -> None:
    emulated = {"float32": 100.0, "bfloat16": 5.0}
    assert reason_to_skip("plain-bf16", emulated) == (
        "bfloat16 is emulated here: 5 GFLOP/s, 100 in float32"
    )
    assert reason_to_skip("plain", emulated) is None
