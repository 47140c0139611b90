"""An option or a value that nothing implements is refused, and never computed as another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from knowcap.config import Corpus, Evaluation, Mixture, Precision, Probe, Record, Run
from knowcap.config.evaluation import QuantizedPrecision
from knowcap.config.knowledge import LanguageModel
from knowcap.config.options import unimplemented
from knowcap.data import implemented as data_options
from knowcap.data.corpus_writer import write_corpus
from knowcap.engines import cuda_graph, implemented
from knowcap.engines.megatron.support import check_supported
from knowcap.engines.select import build_engine
from knowcap.engines.simd import support
from knowcap.engines.simd.engine import SimdEngine
from knowcap.errors import UserError
from knowcap.evaluation.evaluate import SKIPPED_OUTPUTS
from knowcap.evaluation.quantize import SCHEMES
from knowcap.model import megatron_config
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.optimizer import OPTIMIZERS, AdamW
from knowcap.model.transformers_model import find_counterpart
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
TABLE = Corpus.model_validate(
    {
        "knowledge": {
            "kind": "table",
            "file": str(Path(__file__).parents[2] / "config" / "inventions.csv"),
            "name_column": "inventor",
            "attributes": [{"column": "city", "sentences": ["{name} lived in {value}."]}],
        },
        "tokenizer": "word",
    }
)
CORPORA = (BIOS, BIOD, BIOR, TABLE)


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


MODEL_SECTIONS = ("architecture", "optimization", "replicates")
MODEL_CHOICES = [
    (section, name)
    for section in MODEL_SECTIONS
    for name in choices(type(getattr(tiny_run(), section)))
]

MIXED = BIOD.model_copy(
    update={"mixture": Mixture(useful_share=0.5, num_junk_people=9, domain_token=True)}
)
CORPUS_CHOICES = [
    *(
        (corpus, "knowledge", name)
        for corpus in CORPORA
        for name in choices(type(corpus.knowledge))
    ),
    *((MIXED, "mixture", name) for name in choices(Mixture)),
    *((BIOS, "", name) for name in choices(Corpus)),
]


def with_choice(run: Run, section: str, field: str, value: Any = "unknown") -> Run:
    """The run with a value that its record does not allow."""
    changed = getattr(run, section).model_copy(update={field: value})
    return run.model_copy(update={section: changed})


def test_every_record_of_a_run_is_tested_below() -> None:
    corpora = {type(record) for corpus in CORPORA for record in (corpus, corpus.knowledge)}
    tested = {*corpora, Mixture, *(type(getattr(tiny_run(), name)) for name in MODEL_SECTIONS)}
    assert {each for each in all_records(Run) if choices(each)} <= tested
    assert len(MODEL_CHOICES) >= 5
    assert len(CORPUS_CHOICES) >= 7
    assert not choices(Evaluation)


@pytest.mark.parametrize(("section", "field"), MODEL_CHOICES)
def test_every_engine_declines_an_unknown_choice(section: str, field: str) -> None:
    run = with_choice(tiny_run(), section, field)
    message = f"^{section}.{field}: 'unknown' is not implemented"
    with pytest.raises(UserError, match=f"{message}$"):
        build_engine(run, 20, 5, torch.device("cpu"))
    with pytest.raises(UserError, match=f"{message} by several processes, only by one$"):
        check_supported(run)


@pytest.mark.parametrize(("section", "field"), MODEL_CHOICES)
def test_a_choice_that_the_stacked_engine_alone_implements_goes_to_it(
    section: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**implemented.OPTIONS, f"{section}.{field}": frozenset({"unknown"})}
    monkeypatch.setattr(implemented, "OPTIONS", options)
    run = with_choice(tiny_run(), section, field)
    implemented.check_implemented(run)
    if (section, field) != ("optimization", "windows"):  # the C code gets windows already cut
        assert not support.are_options_implemented(run)
        assert not support.is_supported(run, 20, torch.device("cpu"))
    with pytest.raises(UserError, match=f"^{section}.{field}: 'unknown' is not implemented by sev"):
        check_supported(run)


@pytest.mark.parametrize("name", [name for s, name in MODEL_CHOICES if s == "architecture"])
def test_megatrons_layers_and_the_export_decline_an_unknown_choice(name: str) -> None:
    architecture = with_choice(tiny_run(), "architecture", name).architecture
    message = f"^architecture.{name}: 'unknown' is not implemented by "
    with pytest.raises(UserError, match=f"{message}Megatron's layers$"):
        megatron_config.gpt_model(architecture, 20, 8)
    with pytest.raises(UserError, match=f"{message}`knowcap export`$"):
        find_counterpart(architecture)


def test_an_activation_and_an_optimizer_of_ones_own_train_in_the_stacked_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    init_process_groups()
    cpu = torch.device("cpu")
    if not support.is_supported(tiny_run(), 20, cpu):
        pytest.skip("no C compiler")
    assert isinstance(build_engine(tiny_run(), 20, 5, cpu), SimdEngine)

    class Own(AdamW):
        """Another optimizer."""

    monkeypatch.setitem(OPTIMIZERS, "unknown", Own)
    monkeypatch.setitem(megatron_config.ACTIVATIONS, "unknown", torch.nn.functional.relu)
    for section, field in (("optimization", "optimizer"), ("architecture", "activation")):
        path = f"{section}.{field}"
        options = {**implemented.OPTIONS, path: implemented.OPTIONS[path] | {"unknown"}}
        monkeypatch.setattr(implemented, "OPTIONS", options)
        engine = build_engine(with_choice(tiny_run(), section, field), 20, 5, cpu)
        assert engine.facts()["name"] == "stacked"


def test_an_unknown_optimizer_is_not_captured_as_a_cuda_graph() -> None:
    gpu = torch.device("cuda")
    assert cuda_graph.is_capturable(tiny_run(), gpu)
    assert not cuda_graph.is_capturable(with_choice(tiny_run(), "optimization", "optimizer"), gpu)


@pytest.mark.parametrize(("corpus", "section", "field"), CORPUS_CHOICES)
def test_no_corpus_is_written_with_an_unknown_choice(
    tmp_path: Path, corpus: Corpus, section: str, field: str
) -> None:
    path = f"{section}.{field}" if section else field
    update: Any = {field: "unknown"}
    if section:
        update = {section: getattr(corpus, section).model_copy(update=update)}
    with pytest.raises(UserError, match=f"^corpus.{path}: 'unknown' is not implemented"):
        write_corpus(corpus.model_copy(update=update), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("section", MODEL_SECTIONS)
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
    with pytest.raises(UserError, match=f"^{section}.own: not implemented by several processes"):
        check_supported(other)
    if section == "architecture":
        with pytest.raises(UserError, match=r"^architecture.own: not implemented by Megatron's"):
            megatron_config.gpt_model(other.architecture, 20, 8)
        with pytest.raises(UserError, match=r"^architecture.own: not implemented by `knowcap"):
            find_counterpart(other.architecture)


@pytest.mark.parametrize("record", CORPORA)
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
    assert set(SCHEMES) == set(get_args(QuantizedPrecision))
    assert set(SKIPPED_OUTPUTS) == set(get_args(Probe))
