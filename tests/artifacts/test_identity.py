"""Names of corpora, runs and studies change exactly when their records do."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowcap.artifacts import identity
from knowcap.artifacts.code_digest import digest
from knowcap.config.study import Study, load_study


@pytest.fixture
def study(study_file: Path) -> Study:
    return load_study(study_file)


def test_key_order_changes_no_name(study: Study, study_file: Path, study_text: str) -> None:
    lines = study_text.splitlines(keepends=True)
    first = lines.index("    adam_beta1: 0.9\n")
    lines[first], lines[first + 1] = lines[first + 1], lines[first]
    study_file.write_text("".join(lines))
    edited = load_study(study_file)
    assert [identity.run_name(r) for r in edited.runs()] == [
        identity.run_name(r) for r in study.runs()
    ]


def test_another_notation_of_a_number_changes_no_name(
    study: Study, study_file: Path, study_text: str
) -> None:
    study_file.write_text(study_text.replace("1.0e-6", "0.000001"))
    assert identity.study_names(load_study(study_file)) == identity.study_names(study)


def test_every_run_has_its_own_name(study: Study) -> None:
    assert len({identity.run_name(run) for run in study.runs()}) == len(study.runs()) == 6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lr: [1.0e-3]", "lr: [2.0e-3]"),
        ("seeds: [0, 1]", "seeds: [0, 2]"),
        ("seed: 0\n", "seed: 1\n"),
    ],
)
def test_an_edited_record_has_another_name(
    study: Study, study_file: Path, study_text: str, old: str, new: str
) -> None:
    study_file.write_text(study_text.replace(old, new))
    before = {identity.run_name(run) for run in study.runs()}
    assert not before & {identity.run_name(run) for run in load_study(study_file).runs()}


def test_an_experiment_s_name_is_part_of_study_names_and_not_of_run_names(
    study: Study, study_file: Path, study_text: str
) -> None:
    study_file.write_text(study_text.replace("  few:", "  rare:"))
    edited = load_study(study_file)
    assert [identity.run_name(r) for r in edited.runs()] == [
        identity.run_name(r) for r in study.runs()
    ]
    assert identity.study_names(edited) != identity.study_names(study)


def test_a_field_with_its_default_value_is_not_part_of_the_name(study: Study) -> None:
    (run, *_) = study.runs()
    assert "lr_warmup_iters" not in json.loads(identity.record_json(run))["optimization"]


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_different_parts_with_the_same_concatenation_have_different_digests(
    one: list[str], other: list[str]
) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        identity.canonical_json(float("nan"))
