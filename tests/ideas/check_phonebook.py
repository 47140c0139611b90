"""Names are those of bioS, numbers are uniform, and prompts score each number."""

from pathlib import Path

import numpy as np

from knowcap.config import Corpus
from knowcap.data import people
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_texts import CorpusTexts
from knowcap.data.corpus_writer import write_corpus
from knowcap.planning.cost import expected_text_statistics


def test_a_phone_book_is_written_and_its_numbers_are_scored(tmp_path: Path) -> None:
    knowledge = {"kind": "phonebook", "num_people": 500, "num_digits": 3, "seed": 0}
    record = Corpus.model_validate({"knowledge": knowledge, "tokenizer": "Mistral"})
    write_corpus(record, tmp_path / "corpus")
    corpus = load_corpus(tmp_path / "corpus")
    facts = list(CorpusTexts(corpus).facts())
    bios = Corpus.model_validate(
        {"knowledge": {"kind": "bioS", "num_people": 500, "seed": 0}, "tokenizer": "GPT2"}
    )
    persons = people.describe_people(bios.knowledge, np.arange(500))
    assert [fact["name"] for fact in facts] == [person.name.strip() for person in persons]
    numbers = np.array([int(fact["number"]) for fact in facts])
    assert all(len(fact["number"]) == 3 for fact in facts)
    assert abs(numbers.mean() / 499.5 - 1) < 0.1
    prompts = corpus.attribute_prompts(np.arange(500), seed=0)
    scored = [t[f == 1].tolist() for t, f in zip(prompts.tokens, prompts.field, strict=True)]
    assert corpus._tokenizer.decode_batch(scored) == [f" {fact['number']}" for fact in facts]
    assert corpus._writer.attributes == {"number": 1000}
    assert expected_text_statistics(record).tokens_per_biography > 0
