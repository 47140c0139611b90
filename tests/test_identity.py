import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowcap import identity
from knowcap.study import Study, load_study

MODULES = {
    ".".join(path.relative_to(identity.PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )
    for path in identity.PACKAGE.rglob("*.py")
}
"""Every module of the package."""


@pytest.fixture
def study(study_file: Path) -> Study:
    return load_study(study_file)


def test_key_order_moves_no_name(study: Study, study_file: Path, study_text: str) -> None:
    lines = study_text.splitlines(keepends=True)
    first = lines.index("    adam_beta1: 0.9\n")
    lines[first], lines[first + 1] = lines[first + 1], lines[first]
    study_file.write_text("".join(lines))
    edited = load_study(study_file)
    assert [identity.run_name(r) for r in edited.runs()] == [
        identity.run_name(r) for r in study.runs()
    ]


def test_a_number_in_another_spelling_moves_no_name(
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


def test_a_label_is_in_no_run_but_in_the_study(
    study: Study, study_file: Path, study_text: str
) -> None:
    study_file.write_text(study_text.replace("  few:", "  rare:"))
    edited = load_study(study_file)
    assert [identity.run_name(r) for r in edited.runs()] == [
        identity.run_name(r) for r in study.runs()
    ]
    assert identity.study_names(edited) != identity.study_names(study)


def test_a_field_at_its_default_is_not_in_the_name(study: Study) -> None:
    (run, *_) = study.runs()
    assert "lr_warmup_iters" not in json.loads(identity.record_json(run))["optimization"]


def test_the_modules_of_the_question_are_no_stage_s_code() -> None:
    question = {name for name in MODULES if identity.is_question(name)}
    assert {"knowcap", "knowcap.config", "knowcap.config.run", "knowcap.study"} <= question
    for entry in identity.ENTRY.values():
        assert not identity.modules(entry) & question


def test_what_is_named_like_the_question_is_not_of_it() -> None:
    assert not identity.is_question("knowcap.configuration")
    assert not identity.is_question("knowcap.lm")


@pytest.mark.parametrize(
    ("stage", "inside", "outside"),
    [
        ("corpus", "knowcap.bios.people", "knowcap.lm.train"),
        ("train", "knowcap.lm.optimizer", "knowcap.lm.evaluate"),
        ("train", "knowcap.bios.render", "knowcap.capacity.laws"),
        ("evaluate", "knowcap.bios.prompts", "knowcap.lm.optimizer"),
        ("evaluate", "knowcap.lm.losses", "knowcap.lm.quantize"),
        ("quantize", "knowcap.lm.evaluate", "knowcap.lm.optimizer"),
        ("laws", "knowcap.capacity.laws", "knowcap.capacity.figures"),
        ("figures", "knowcap.capacity.figures", "knowcap.lm.train"),
    ],
)
def test_a_stage_reaches_its_own_code_only(
    stage: identity.Stage, inside: str, outside: str
) -> None:
    reached = identity.modules(identity.ENTRY[stage])
    assert inside in reached
    assert outside not in reached


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_parts_of_a_digest_do_not_run_together(one: list[str], other: list[str]) -> None:
    assert (identity.digest(*one) == identity.digest(*other)) == (one == other)


def test_canonical_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        identity.canonical_json(float("nan"))
