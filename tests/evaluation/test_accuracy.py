"""Memorisable and extractable accuracy of made-up models and of a trained run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from knowcap.artifacts.files import read_dataset
from knowcap.cli import main
from knowcap.config import Corpus
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.data.questions import build_questions
from knowcap.data.tokenizer import END_OF_TEXT_ID
from knowcap.evaluation.accuracy import FineTuning, extractable_accuracy, greedy_hits, shares_right
from knowcap.evaluation.lora import Ranks, add_lora
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.stacked_model import build_model
from knowcap.training.train import train
from tests.support.tiny import tiny_run
from tests.support.variants import VARIANTS, VOCAB_SIZE, stacked, windows, with_larger_weights

RUN = tiny_run(optimization__exposures=2)
BIOS = {"knowledge": {"kind": "bioS", "num_people": 12, "seed": 1}, "tokenizer": "GPT2"}
JUNK = {"useful_share": 0.5, "num_junk_people": 9, "domain_token": True}


@pytest.fixture(scope="module", params=["bioD", "bioS", "bioS with a domain token"])
def corpus_reader(request: pytest.FixtureRequest, tmp_path_factory) -> CorpusReader:
    corpora = {
        "bioD": RUN.corpus,
        "bioS": Corpus.model_validate(BIOS),
        "bioS with a domain token": Corpus.model_validate(BIOS | {"mixture": JUNK}),
    }
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(corpora[request.param], folder)
    return load_corpus(folder)


def test_a_question_has_the_name_and_its_answer_the_value(corpus_reader: CorpusReader) -> None:
    people, attributes = np.array([3, 8]), list(corpus_reader.fields[1:3])
    questions = build_questions(corpus_reader, people, attributes, seed=0)
    assert sorted(zip(questions.person, questions.attribute, strict=True)) == [
        (3, 0), (3, 1), (8, 0), (8, 1),
    ]  # fmt: skip
    prompts = corpus_reader.attribute_prompts(people, 5)
    for row, tokens in enumerate(questions.tokens):
        person, attribute = questions.person[row], questions.attribute[row]
        field = corpus_reader.fields.index(attributes[attribute])
        is_row = (prompts.person == person) & (prompts.field.max(1) == field)
        (text,) = prompts.tokens[is_row]
        value = text[prompts.field[is_row][0] == field]
        start = questions.is_value[row].argmax()
        assert tokens[questions.is_value[row]].tolist() == value.tolist()
        asked = corpus_reader.vocab_size + attribute
        (at,) = np.flatnonzero(tokens == asked)
        assert text[:at].tolist() == tokens[:at].tolist()
        name = tokens[at + 1 : start - 1]
        assert tokens[start - 1] == corpus_reader.vocab_size + len(attributes)
        assert text[at : at + len(name)].tolist() == name.tolist()
        end = questions.is_answer[row] & ~questions.is_value[row]
        assert tokens[end].tolist() == [END_OF_TEXT_ID]
        assert end.nonzero()[0] == questions.is_value[row].nonzero()[0][-1] + 1


def test_values_count_if_all_their_tokens_are_predicted() -> None:
    tokens = np.array([[0, 4, 5, 6], [0, 4, 5, 6], [0, 1, 1, 1]], dtype=np.int32)
    marked = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)

    def next_number(inputs: Tensor) -> Tensor:
        """Logits that predict n + 1 after n, in two replicates; the second one knows nothing."""
        right = torch.nn.functional.one_hot(inputs + 1, 9).float()
        return torch.stack([right, torch.zeros_like(right)])

    hits = greedy_hits(tokens, next_number)
    assert hits[0].astype(int).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 0]]
    exact, first = shares_right(hits, marked)
    assert exact.tolist() == [0.5, 0]
    assert first.tolist() == [0.5, 0]


@pytest.mark.parametrize("name", ["GPT2", "Mistral"])
def test_lora_changes_nothing_at_first_and_trains_queries_and_values_only(name: str) -> None:
    model = with_larger_weights(stacked(VARIANTS[name], 0, 1))
    tokens = windows(2, 3, 6)
    before = model.logits(tokens).detach()
    parameters = add_lora(model, Ranks(embedding=3, attention=2), num_new_tokens=1)
    torch.testing.assert_close(model.logits(tokens), before)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    qkv = model.decoder.layers[0].self_attention.linear_qkv
    change = (qkv.weight - qkv.parametrizations.weight.original).detach()
    assert torch.linalg.matrix_rank(change).max() <= 2
    kind = model.architecture
    shape = (kind.num_kv_heads, -1, kind.kv_channels)
    by_head = change.abs().sum(1).unflatten(1, shape)
    assert (by_head[:, :, -2] == 0).all()  # keys
    assert (by_head[:, :, -1] > 0).all()
    assert (by_head[:, :, :-2] > 0).all()
    table = model.embedding.word_embeddings
    change = (table.weight - table.parametrizations.weight.original).detach()
    assert torch.linalg.matrix_rank(change[:, :-1]).max() <= 3
    assert change.shape[1] == VOCAB_SIZE


def test_replicates_are_tuned_independently(tmp_path: Path) -> None:
    write_corpus(RUN.corpus, tmp_path)
    reader = load_corpus(tmp_path)
    questions = build_questions(reader, np.arange(10), list(reader.fields[1:]), 0)
    settings = FineTuning(Ranks(4, 2), num_steps=3, lr=0.01)
    device = init_process_groups()

    def tuned(*seeds: int) -> dict[str, np.ndarray]:
        run = tiny_run(replicates__seeds=seeds, replicates__lr=[1e-3])
        model = build_model(run.architecture, reader.vocab_size, seeds, device, torch.float32)
        before = model.flat.clone()
        found = extractable_accuracy(model, run, questions, reader.fields[1:], settings)
        assert torch.equal(model.flat, before)
        return found

    both = tuned(0, 1)
    assert both["extractable_accuracy"].shape == (2, 2)
    for name, shares in tuned(0).items():
        np.testing.assert_allclose(shares[0], both[name][0])


def test_a_model_of_few_people_answers_questions_of_the_fine_tuning(tmp_path: Path) -> None:
    """Enough steps store the answers of four people, and none of the other four people."""
    run = tiny_run(replicates__seeds=[0], replicates__lr=[1e-3])
    write_corpus(run.corpus, tmp_path)
    reader = load_corpus(tmp_path)
    questions = build_questions(reader, np.arange(8), list(reader.fields[1:]), 0)
    model = build_model(
        run.architecture, reader.vocab_size, [0], init_process_groups(), torch.float32
    )
    settings = FineTuning(Ranks(16, 16), num_steps=400, lr=0.03, weight_decay=0.0)
    found = extractable_accuracy(model, run, questions, reader.fields[1:], settings)
    assert found["trained_accuracy"].min() > 0.7
    assert found["extractable_accuracy"].max() < 0.5


def test_the_command_writes_the_accuracies_of_a_run(tmp_path: Path, capsys) -> None:
    write_corpus(RUN.corpus, tmp_path / "corpus")
    train(RUN, tmp_path / "corpus", tmp_path / "run", tmp_path / "scratch")
    arguments = ["accuracy", str(tmp_path / "run"), "--corpus", str(tmp_path / "corpus")]
    arguments += ["--output", str(tmp_path / "accuracy.nc"), "--steps", "2"]
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 0
    found = read_dataset(tmp_path / "accuracy.nc")
    assert dict(found.sizes) == {"replicate": 4, "attribute": 2}
    assert found["lr"].values.tolist() == [1e-3, 1e-3, 4e-3, 4e-3]
    assert set(found.data_vars) == {
        "memorisable_accuracy", "first_token_accuracy", "extractable_accuracy", "trained_accuracy",
    }  # fmt: skip
    assert all(0 <= float(v.min()) <= float(v.max()) <= 1 for v in found.data_vars.values())
    assert (found["memorisable_accuracy"] <= found["first_token_accuracy"]).all()
    assert "extractable" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_info:
        main([*arguments, "--num-people", "1"])
    assert exit_info.value.code == 2
    assert "--num-people: 1 is too few" in capsys.readouterr().err
