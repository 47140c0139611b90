"""Lengths of biographies that study files are checked with, against those of the corpora."""

from pathlib import Path
from typing import Any

import pytest

from knowcap.config import Corpus
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus

BIOD = {
    "kind": "bioD",
    "num_people": 9,
    "num_attributes": 3,
    "num_chunks": 2,
    "diversity": 8,
    "chunk_length": 2,
    "alphabet_size": 10,
    "seed": 0,
}
MIXTURE = {"useful_share": 0.5, "num_junk_people": 9, "domain_token": True}


@pytest.mark.parametrize(
    ("knowledge", "tokenizer"),
    [
        ({"kind": "bioS", "num_people": 9, "seed": 0}, "GPT2"),
        ({"kind": "bioS", "num_people": 9, "seed": 0}, "Mistral"),
        ({"kind": "bioS-simple", "num_people": 9, "seed": 0}, "word"),
        ({**BIOD, "layout": "compact"}, "word"),
        ({**BIOD, "layout": "sentences"}, "word"),
    ],
)
@pytest.mark.parametrize("mixture", [None, MIXTURE])
def test_the_longest_biography_is_known_before_a_corpus_is_made(
    tmp_path: Path, knowledge: dict[str, Any], tokenizer: str, mixture: dict[str, Any] | None
) -> None:
    record = {"knowledge": knowledge, "tokenizer": tokenizer, "mixture": mixture}
    corpus = Corpus.model_validate(record)
    write_corpus(corpus, tmp_path)
    assert corpus.longest_biography == load_corpus(tmp_path).longest_biography
