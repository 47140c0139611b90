"""`knowcap accept` compares golden traces stage by stage and records those that are equal."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowcap.artifacts import equivalences
from knowcap.artifacts.code_digest import EQUIVALENCES, code_digest
from knowcap.artifacts.equivalences import accept, compare
from knowcap.errors import UserError


def output(*values: float) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(np.array(values).tobytes()).hexdigest(), "values": [*values]}


def trace(code: str, **outputs: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "outputs": outputs}


def test_equal_bytes_are_bit_identical() -> None:
    comparison = compare("train", trace("a", w=output(1, 2)), trace("b", w=output(1, 2)))
    assert comparison.largest_difference == 0
    assert comparison.is_accepted(rtol=0)
    assert "1 outputs of the golden runs are bit-identical" in comparison.describe("HEAD", 0)


def test_the_largest_relative_difference_and_its_array_are_given() -> None:
    old = trace("a", v=output(1, 2), w=output(1, 4))
    comparison = compare("train", old, trace("b", v=output(1, 2), w=output(1.5, 4)))
    assert comparison.largest_difference == 0.5 / 4
    line = comparison.describe("HEAD", 0)
    assert "train: the golden traces differ from those of HEAD" in line
    assert "(w: largest relative difference 0.12)" in line


@pytest.mark.parametrize(("rtol", "is_accepted"), [(0, False), (0.1, False), (0.2, True)])
def test_a_difference_is_accepted_within_the_given_tolerance(
    rtol: float, is_accepted: bool
) -> None:
    comparison = compare("train", trace("a", w=output(1, 4)), trace("b", w=output(1.5, 4)))
    assert comparison.is_accepted(rtol) == is_accepted


def test_another_sign_of_zero_is_not_bit_identical() -> None:
    comparison = compare("train", trace("a", w=output(0.0, 1)), trace("b", w=output(-0.0, 1)))
    assert 0 < comparison.largest_difference < 1e-300


@pytest.mark.parametrize(
    "other", [{}, {"w": output(1, 2, 3)}, {"w": output(1, math.nan)}, {"w": output()}]
)
def test_traces_of_other_arrays_are_not_comparable(other: dict[str, Any]) -> None:
    comparison = compare("train", trace("a", w=output(1, 2)), trace("b", **other))
    assert comparison.largest_difference == math.inf
    assert "(w: not comparable)" in comparison.describe("HEAD", 0)


def test_outputs_of_a_new_precision_are_not_compared() -> None:
    now = trace("b", int8=output(1), int2=output(2))
    assert compare("quantize", trace("a", int8=output(1)), now).is_accepted(rtol=0)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of equivalences, and traces whose train stage is equal and evaluate is not."""
    path = tmp_path / "equivalences.json"
    path.write_text("[]")
    now = {"train": trace("new", w=output(1)), "evaluate": trace("new", loss=output(1))}
    old = {"train": trace("old", w=output(1)), "evaluate": trace("old", loss=output(2))}
    traces = iter([old, now])
    monkeypatch.setattr(equivalences, "EQUIVALENCES", path)
    monkeypatch.setattr(equivalences, "_git", lambda *_: None)
    monkeypatch.setattr(equivalences, "_code_digests", lambda _: {"train": "", "evaluate": ""})
    monkeypatch.setattr(equivalences, "_golden_traces", lambda *_: next(traces))
    return path


def test_only_equal_stages_are_recorded(recorded: Path) -> None:
    train, evaluate = accept(["train", "evaluate"], "HEAD", "tidied")
    assert train.is_accepted(rtol=0)
    assert not evaluate.is_accepted(rtol=0)
    (decision,) = json.loads(recorded.read_text())
    assert decision["stage"] == "train"
    assert (decision["code"], decision["stands_for"]) == ("new", "old")
    assert (decision["largest_difference"], decision["reason"]) == (0.0, "tidied")


def test_unchanged_code_is_not_compared(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"train": code_digest("train"), "evaluate": ""}
    monkeypatch.setattr(equivalences, "_code_digests", lambda _: codes)
    (comparison,) = accept(["train", "evaluate"], "HEAD", "tidied")
    assert comparison.stage == "evaluate"
    with pytest.raises(UserError, match="train: the code is the same as in HEAD, nothing to"):
        accept(["train"], "HEAD", "tidied")
    assert json.loads(recorded.read_text()) == []


def test_a_stage_without_golden_traces_is_refused() -> None:
    with pytest.raises(UserError, match="report: has no golden trace; allowed stages are corpus,"):
        accept(["report"], "HEAD", "tidied")


def test_the_recorded_equivalences_have_the_fields_that_are_read() -> None:
    for decision in json.loads(EQUIVALENCES.read_text()):
        assert {"stage", "code", "stands_for", "reason"} <= decision.keys()
