"""An option or a value that nothing implements is refused, and never computed as another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from knowcap.config import (
    Architecture,
    Corpus,
    Evaluation,
    Mixture,
    Optimization,
    Precision,
    Record,
    Run,
)
from knowcap.config.knowledge import BioD, BioR, BioS, LanguageModel
from knowcap.config.options import unimplemented
from knowcap.data import implemented as data_options
from knowcap.data.corpus import write_corpus
from knowcap.engines import implemented
from knowcap.engines.select import build_engine
from knowcap.engines.simd import support
from knowcap.errors import UserError
from knowcap.stages.precisions import PRECISION_BACKENDS
from tests.support.tiny import tiny_run

BIOD = tiny_run().corpus
BIOS = Corpus.model_validate(
    {"knowledge": {"kind": "bioS", "num_people": 9, "seed": 0}, "tokenizer": "word"}
)
BIOR = Corpus.model_validate(
    {
        "knowledge": {
            "kind": "bioR",
            "num_people": 9,
            "num_versions": 2,
            "seed": 0,
            "rewriter": "grammar",
        },
        "tokenizer": "GPT2",
    }
)


def choices(record: type[Record]) -> list[str]:
    """Fields of a record whose values are words of a list."""
    return [
        name
        for name, field in record.model_fields.items()
        if any(get_origin(part) is Literal for part in parts(field.annotation))
    ]


def parts(annotation: Any) -> Iterator[Any]:
    """An annotation and all that it is made of."""
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from parts(part)


def all_records(record: type[Record]) -> set[type[Record]]:
    """A record and the records in its fields."""
    nested = {
        part
        for field in record.model_fields.values()
        for part in parts(field.annotation)
        if isinstance(part, type) and issubclass(part, Record)
    }
    return {record}.union(*(all_records(each) for each in nested))


def test_the_choices_of_a_run_are_those_that_are_tested_below() -> None:
    found = {(each, name) for each in all_records(Run) for name in choices(each)}
    assert found == {
        (Architecture, "activation"),
        (Architecture, "normalization"),
        (Optimization, "dtype"),
        (Optimization, "windows"),
        (BioS, "kind"),
        (BioR, "kind"),
        (BioR, "rewriter"),
        (BioD, "kind"),
        (BioD, "layout"),
        (Corpus, "tokenizer"),
        (Mixture, "unit"),
    }
    assert not choices(Evaluation)


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ("architecture", "activation"),
        ("architecture", "normalization"),
        ("optimization", "dtype"),
        ("optimization", "windows"),
    ],
)
def test_an_unknown_choice_of_a_model_or_its_training_is_refused(section: str, field: str) -> None:
    run = tiny_run()
    changed = getattr(run, section).model_copy(update={field: "unknown"})
    with pytest.raises(UserError, match=f"^{section}.{field}: 'unknown' is not implemented$"):
        build_engine(run.model_copy(update={section: changed}), 20, 5, torch.device("cpu"))


@pytest.mark.parametrize(
    ("corpus", "field"),
    [(BIOS, "kind"), (BIOD, "kind"), (BIOD, "layout"), (BIOR, "kind"), (BIOR, "rewriter")],
)
def test_an_unknown_choice_of_knowledge_is_refused(
    tmp_path: Path, corpus: Corpus, field: str
) -> None:
    knowledge = corpus.knowledge.model_copy(update={field: "unknown"})
    changed = corpus.model_copy(update={"knowledge": knowledge})
    with pytest.raises(UserError, match=f"^corpus.knowledge.{field}: 'unknown' is not implemented"):
        write_corpus(changed, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_an_unknown_tokenizer_is_refused(tmp_path: Path) -> None:
    changed = BIOS.model_copy(update={"tokenizer": "unknown"})
    with pytest.raises(UserError, match=r"^corpus.tokenizer: 'unknown' is not implemented$"):
        write_corpus(changed, tmp_path / "corpus")


def test_an_unknown_unit_of_a_mixture_is_refused(tmp_path: Path) -> None:
    mixture = Mixture(useful_share=0.5, num_junk_people=9, domain_token=True)
    unknown = mixture.model_copy(update={"unit": "unknown"})
    with pytest.raises(UserError, match=r"^corpus.mixture.unit: 'unknown' is not implemented$"):
        write_corpus(BIOS.model_copy(update={"mixture": unknown}), tmp_path / "corpus")


@pytest.mark.parametrize("section", ["architecture", "optimization", "replicates"])
def test_a_new_field_of_a_model_or_its_training_is_refused_unless_it_has_its_default(
    section: str,
) -> None:
    run = tiny_run()
    values = getattr(run, section)

    class Extended(type(values)):  # type: ignore[misc]
        own: str = "as before"

    same = Extended.model_validate(values.model_dump())
    implemented.check_implemented(run.model_copy(update={section: same}))
    other = run.model_copy(update={section: same.model_copy(update={"own": "other"})})
    with pytest.raises(UserError, match=f"^{section}.own: not implemented$"):
        implemented.check_implemented(other)
    assert not support.are_options_implemented(other)


@pytest.mark.parametrize("record", [BIOD, BIOS, BIOR])
def test_every_field_of_a_corpus_is_known_and_a_new_one_is_refused(record: Corpus) -> None:
    data_options.check_implemented(record)
    knowledge = record.knowledge

    class Extended(type(knowledge)):  # type: ignore[misc]
        own: str = "as before"

    other = Extended.model_validate({**knowledge.model_dump(), "own": "other"})
    changed = record.model_copy(update={"knowledge": other})
    errors = list(unimplemented(changed, data_options.OPTIONS))
    assert [(error.field, error.message) for error in errors] == [
        ("knowledge.own", "not implemented")
    ]


def test_a_mixture_and_a_language_model_are_implemented() -> None:
    mixture = Mixture(useful_share=0.5, num_junk_people=9, domain_token=True)
    data_options.check_implemented(BIOS.model_copy(update={"mixture": mixture}))
    rewriter = LanguageModel(model="m", temperature=1, top_p=1, num_words=9, max_attempts=1)
    knowledge = BIOR.knowledge.model_copy(update={"rewriter": rewriter})
    data_options.check_implemented(BIOR.model_copy(update={"knowledge": knowledge}))


def test_every_precision_has_a_backend_and_no_other_has() -> None:
    assert set(PRECISION_BACKENDS) == set(get_args(Precision))
