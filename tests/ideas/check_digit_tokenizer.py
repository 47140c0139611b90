"""Numbers are tokenized digit by digit, and all else by words."""

from pathlib import Path

import numpy as np

from knowcap.config import Corpus
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus


def test_a_biography_has_a_token_for_each_digit(tmp_path: Path) -> None:
    knowledge = {"kind": "bioS", "num_people": 5, "seed": 0}
    record = Corpus.model_validate({"knowledge": knowledge, "tokenizer": "digit"})
    write_corpus(record, tmp_path / "corpus")
    corpus = load_corpus(tmp_path / "corpus")
    text = corpus.example_biography()
    tokens = corpus._tokenizer.encode(text, add_special_tokens=False)
    pieces = [text[start:stop] for start, stop in tokens.offsets]
    assert "".join(pieces) == text
    assert max(tokens.ids) < corpus.vocab_size
    assert {piece for piece in pieces if any(map(str.isdigit, piece))} <= set("0123456789")
    prompts = corpus.attribute_prompts(np.arange(5), seed=0)
    assert (prompts.field >= 0).any(axis=1).all()
