import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer

from knowcap.artifacts import identity
from knowcap.config import Corpus
from knowcap.data import people, token_stream
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.data.mixture import MixedStream
from knowcap.data.tokenizer import DOMAIN_TOKEN, END_OF_TEXT
from tests.data.conftest import (
    MIXED,
    MIXED_WITHIN_WINDOWS,
    all_people,
    biod,
    bios,
    mixed,
)

EXPOSURES = 3
SEQ_LENGTH = 150


@pytest.fixture(params=MIXED)
def corpus_reader(
    request: pytest.FixtureRequest, load: Callable[[str], CorpusReader]
) -> CorpusReader:
    return load(request.param)


def open_stream(corpus_reader: CorpusReader, seed: int = 7) -> MixedStream:
    stream = corpus_reader.stream(EXPOSURES, seed)
    assert isinstance(stream, MixedStream)
    return stream


def split_windows(stream: MixedStream) -> tuple[np.ndarray, np.ndarray]:
    """Useful windows and junk windows."""
    num_windows = stream.length(SEQ_LENGTH).num_windows
    windows, _ = stream.windows(num_windows, SEQ_LENGTH, stream.start)
    is_useful = stream.useful_mask(0, num_windows, SEQ_LENGTH)
    return windows[is_useful], windows[~is_useful]


def join_windows(windows: np.ndarray) -> np.ndarray:
    """Tokens of consecutive windows without repetitions and padding."""
    tokens = np.append(windows[0, 0], windows[:, 1:].ravel())
    assert np.array_equal(windows[1:, 0], windows[:-1, -1])
    return tokens[tokens >= 0]


def split_biographies(tokens: np.ndarray) -> list[tuple[int, ...]]:
    """Tokens between ends of text; the last part may be incomplete and is left out."""
    parts = np.split(tokens, np.flatnonzero(tokens == 0))[1:-1]
    return [tuple(part[1:].tolist()) for part in parts]


def decode_biographies(corpus_reader: CorpusReader, tokens: np.ndarray) -> list[str]:
    return corpus_reader._tokenizer.decode_batch([list(each) for each in split_biographies(tokens)])


def person_ids_by_name(corpus_reader: CorpusReader) -> dict[str, int]:
    """Person ids by full name."""
    person_ids = np.arange(corpus_reader.corpus.num_people_with_junk)
    rows = corpus_reader._junk_writer.write_facts(person_ids)[:, :3]
    templates = corpus_reader._junk_writer.templates
    names = corpus_reader._tokenizer.decode_batch(
        [templates.gather_tokens(row).tolist() for row in rows]
    )
    return dict(zip(names, person_ids.tolist(), strict=True))


def find_subjects(corpus_reader: CorpusReader, tokens: np.ndarray) -> list[int]:
    """Person ids of the subjects of all biographies."""
    person_ids = person_ids_by_name(corpus_reader)
    subjects = []
    for text in decode_biographies(corpus_reader, tokens):
        words = text.replace("'s", " 's").split(" ")
        subjects.append(person_ids[" ".join(words[:4])])
    return subjects


def test_every_useful_biography_appears_once_per_exposure(
    corpus_reader: CorpusReader,
) -> None:
    useful, _ = split_windows(open_stream(corpus_reader))
    texts = Counter(decode_biographies(corpus_reader, join_windows(useful)))
    expected: Counter[str] = Counter()
    for exposure in range(EXPOSURES):
        expected.update(corpus_reader.biographies(all_people(corpus_reader), exposure, seed=7))
    assert texts == expected


@pytest.mark.parametrize("name", MIXED)
def test_the_share_of_useful_windows_is_exact(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    useful, junk = split_windows(open_stream(load(name)))
    mixture = MIXED[name].mixture
    assert mixture is not None
    assert len(useful) + len(junk) == round(len(useful) / mixture.useful_share)


def test_windows_are_useful_or_junk_and_junk_is_about_other_people(
    corpus_reader: CorpusReader,
) -> None:
    useful, junk = split_windows(open_stream(corpus_reader))
    num_people = corpus_reader.corpus.knowledge.num_people
    assert set(find_subjects(corpus_reader, join_windows(useful))) == set(range(num_people))
    others = set(find_subjects(corpus_reader, join_windows(junk)))
    assert num_people <= min(others) <= max(others) < corpus_reader.corpus.num_people_with_junk


def test_many_junk_people_are_rare_and_few_are_frequent(
    load: Callable[[str], CorpusReader],
) -> None:
    counts = {}
    for name in ("bioD-junk", "bioD-repeated"):
        _, junk = split_windows(open_stream(load(name)))
        counts[name] = Counter(find_subjects(load(name), join_windows(junk)))
    assert max(counts["bioD-junk"].values()) <= 4  # 1260 draws from 7940
    assert sorted(counts["bioD-repeated"]) == [60, 61, 62]
    assert min(counts["bioD-repeated"].values()) > 60  # of 270 draws from 3


def test_junk_is_drawn_with_replacement(load: Callable[[str], CorpusReader]) -> None:
    corpus_reader = load("bioS-junk")
    _, junk = split_windows(open_stream(corpus_reader))
    drawn = Counter(find_subjects(corpus_reader, join_windows(junk)))
    num_draws = sum(drawn.values())
    # A share of about exp(-num_draws / 500) is never drawn; its standard deviation is below 10.
    assert 500 - len(drawn) == pytest.approx(500 * np.exp(-num_draws / 500), abs=50)


def test_useful_and_junk_people_have_distinct_names(corpus_reader: CorpusReader) -> None:
    assert len(person_ids_by_name(corpus_reader)) == corpus_reader.corpus.num_people_with_junk


def test_a_mixture_has_the_useful_people_of_the_pure_corpus(
    load: Callable[[str], CorpusReader],
) -> None:
    assert load("bioS-junk").biographies(np.arange(60), 2, 3) == load("bioS-GPT2").biographies(
        np.arange(60), 2, 3
    )


@pytest.mark.parametrize("name", ["bioS-junk", "bioD-repeated", "bioD-domain"])
@settings(max_examples=20)
@given(calls=st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_windows_do_not_depend_on_how_many_are_requested_at_once(
    load: Callable[[str], CorpusReader], name: str, calls: list[int]
) -> None:
    stream = open_stream(load(name))
    expected, _ = stream.windows(sum(calls), SEQ_LENGTH, stream.start)
    position, parts = stream.start, []
    for number in calls:
        windows, position = open_stream(load(name)).windows(number, SEQ_LENGTH, position)
        parts.append(windows)
    assert np.array_equal(np.concatenate(parts), expected)


def test_windows_do_not_depend_on_the_block_size(
    load: Callable[[str], CorpusReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = split_windows(open_stream(load("bioS-domain")))
    monkeypatch.setattr(token_stream, "BLOCK_TOKENS", 100)
    for windows, same in zip(
        split_windows(open_stream(load("bioS-domain"))), expected, strict=True
    ):
        assert np.array_equal(windows, same)


def test_windows_after_the_end_are_padding(corpus_reader: CorpusReader) -> None:
    stream = open_stream(corpus_reader)
    number = stream.length(SEQ_LENGTH).num_windows
    windows, position = stream.windows(number + 3, SEQ_LENGTH, stream.start)
    assert (windows[number:] == -1).all()
    assert (windows[:number, 0] >= 0).all()
    again, after = stream.windows(2, SEQ_LENGTH, position)
    assert (again == -1).all()
    assert after == position


def test_the_length_counts_all_tokens(corpus_reader: CorpusReader) -> None:
    stream = open_stream(corpus_reader)
    number, num_tokens = stream.length(SEQ_LENGTH)
    windows, _ = stream.windows(number, SEQ_LENGTH, stream.start)
    assert (windows[:, 1:] >= 0).sum() == num_tokens - 1


def test_aligned_windows_of_useful_biographies_and_of_junk_hold_equally_many(
    corpus_reader: CorpusReader,
) -> None:
    seq_length = 2 * corpus_reader.longest_biography + 1
    stream = corpus_reader.stream(EXPOSURES, 7, "aligned")
    number, num_tokens = stream.length(seq_length)
    windows, _ = stream.windows(number, seq_length, stream.start)
    assert (windows[:, 0] == 0).all()
    assert ((windows == 0).sum(axis=1) == 3).all()
    # The tokens of bioS's junk are counted by their mean.
    rel = 0 if corpus_reader.corpus.knowledge.kind == "bioD" else 0.02
    assert (windows[:, 1:] >= 0).sum() == pytest.approx(num_tokens - 1, rel=rel)


def test_the_seed_determines_the_order_of_useful_windows(corpus_reader: CorpusReader) -> None:
    number = open_stream(corpus_reader).length(SEQ_LENGTH).num_windows
    first, other = (
        open_stream(corpus_reader, s).useful_mask(0, number, SEQ_LENGTH) for s in (0, 1)
    )
    assert first.tolist() != sorted(first, reverse=True)
    assert first.tolist() != other[: first.size].tolist()


@pytest.mark.parametrize("name", ["bioS-domain", "bioS-simple-domain", "bioD-domain"])
def test_the_domain_token_precedes_useful_biographies_only(
    corpus_folder: Callable[[str], Path], load: Callable[[str], CorpusReader], name: str
) -> None:
    metadata = json.loads((corpus_folder(name) / "corpus.json").read_text())
    token = metadata["domain_token"]
    assert token == metadata["vocab_size"] - 1
    assert load(name)._tokenizer.id_to_token(token) == DOMAIN_TOKEN
    useful, junk = split_windows(open_stream(load(name)))
    useful_biographies = split_biographies(join_windows(useful))
    assert all(tokens[0] == token for tokens in useful_biographies)
    assert sum(tokens.count(token) for tokens in useful_biographies) == 60 * EXPOSURES
    assert (junk != token).all()


def test_the_tokenizer_has_no_domain_token_unless_it_is_configured(
    corpus_folder: Callable[[str], Path],
) -> None:
    folder = corpus_folder("bioS-junk")
    assert json.loads((folder / "corpus.json").read_text())["domain_token"] is None
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(DOMAIN_TOKEN) is None


def test_prompts_begin_like_useful_biographies(corpus_reader: CorpusReader) -> None:
    useful, _ = split_windows(open_stream(corpus_reader))
    opening = corpus_reader._writer.templates.gather_tokens(
        np.array([corpus_reader._writer.opening_id])
    )
    assert np.array_equal(join_windows(useful)[: opening.size], opening)
    people = all_people(corpus_reader)
    for prompts in (
        corpus_reader.name_prompts(people, 1),
        corpus_reader.attribute_prompts(people, 1),
        corpus_reader.biography_prompts(people, 1),
    ):
        assert (prompts.tokens[:, : opening.size] == opening).all()
        assert (prompts.field[:, : opening.size] == -1).all()
    name = corpus_reader.name_prompts(people, 1)
    assert ((name.field == 0).argmax(axis=1) == opening.size).all()


def test_the_vocabulary_includes_the_tokens_of_junk(
    load: Callable[[str], CorpusReader],
) -> None:
    few, many = load("bioS-simple-domain"), load("bioS-junk")
    for corpus_reader in (few, many):
        useful, junk = split_windows(open_stream(corpus_reader))
        assert max(useful.max(), junk.max()) < corpus_reader.vocab_size
    assert load("bioS-GPT2").vocab_size < many.vocab_size


def test_lengths_include_the_domain_token_and_texts_do_not(
    load: Callable[[str], CorpusReader],
) -> None:
    plain, marked = load("bioS-junk"), load("bioS-domain")
    assert marked.biographies(np.arange(9), 0, 0) == plain.biographies(np.arange(9), 0, 0)
    assert marked.longest_biography == plain.longest_biography + 1
    assert marked.tokens_per_biography == pytest.approx(plain.tokens_per_biography + 1)
    (text,) = marked.biographies(np.array([4]), 0, 0)
    row = marked._writer.write_biographies(np.array([4]), np.array([0]), 0)
    expected = marked._tokenizer.encode(END_OF_TEXT + DOMAIN_TOKEN + text).ids
    assert marked._writer.templates.gather_tokens(row).tolist() == expected


def test_a_hundred_million_junk_people_need_no_memory(tmp_path: Path) -> None:
    corpus = mixed(biod("sentences"), num_junk_people=100_000_000)
    write_corpus(corpus, tmp_path)
    stream = load_corpus(tmp_path).stream(1, 0)
    windows, _ = stream.windows(5, SEQ_LENGTH, stream.start)
    assert windows.min() >= 0


def test_more_junk_people_than_names_are_rejected() -> None:
    corpus = biod("compact").model_dump()
    junk = {"useful_share": 0.125, "num_junk_people": 20**3 - 59, "domain_token": False}
    message = "7941 is more than the 7940 names that 60 useful people leave"
    with pytest.raises(ValidationError, match=message):
        Corpus.model_validate(corpus | {"mixture": junk})


def test_the_identity_of_a_pure_corpus_does_not_mention_mixtures() -> None:
    assert "mixture" not in json.loads(identity.record_json(bios("bioS", "GPT2")))
    pure, junk = bios("bioS", "GPT2"), mixed(bios("bioS", "GPT2"))
    assert identity.corpus_name(pure) != identity.corpus_name(junk)


def test_attributes_of_junk_people_are_independent_of_useful_ones() -> None:
    knowledge = bios("bioS", "GPT2").knowledge
    useful = people.attribute_ids(knowledge, np.arange(20_000))
    junk = people.attribute_ids(knowledge, np.arange(20_000, 40_000))
    for name, size in people.CARDINALITIES.items():
        share_equal = (useful[name] == junk[name]).mean()
        assert share_equal == pytest.approx(1 / size, abs=6 * (1 / size / 20_000) ** 0.5)


@pytest.fixture(params=MIXED_WITHIN_WINDOWS)
def mixed_within(
    request: pytest.FixtureRequest, load: Callable[[str], CorpusReader]
) -> CorpusReader:
    return load(request.param)


def all_documents(corpus_reader: CorpusReader, seed: int = 7) -> list[tuple[int, ...]]:
    """Tokens of all biographies of a stream that is mixed within windows, without openings."""
    stream = corpus_reader.stream(EXPOSURES, seed)
    number, num_tokens = stream.length(SEQ_LENGTH)
    windows, _ = stream.windows(number, SEQ_LENGTH, stream.start)
    assert (windows[:, 1:] >= 0).sum() == num_tokens - 1
    return split_biographies(np.append(join_windows(windows), 0))[:-1]


def test_within_windows_every_exposure_has_each_useful_biography_once(
    mixed_within: CorpusReader,
) -> None:
    documents = all_documents(mixed_within)
    mixture = mixed_within.corpus.mixture
    assert mixture is not None
    block_size = round(60 / mixture.useful_share)
    assert len(documents) == EXPOSURES * block_size
    texts = mixed_within._tokenizer.decode_batch([list(tokens) for tokens in documents])
    places = []
    for exposure in range(EXPOSURES):
        block = texts[exposure * block_size : (exposure + 1) * block_size]
        useful = mixed_within.biographies(all_people(mixed_within), exposure, seed=7)
        assert [block.count(text) for text in useful] == [1] * 60
        places.append([block.index(text) for text in useful])
        assert 0.25 * block_size < np.mean(places[-1]) < 0.75 * block_size
    assert places[0] != places[1]


def test_within_windows_the_domain_token_precedes_useful_biographies_only(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioD-within")
    documents = all_documents(corpus_reader)
    token = corpus_reader.vocab_size - 1
    useful = {
        tuple(corpus_reader._tokenizer.encode(text).ids)
        for exposure in range(EXPOSURES)
        for text in corpus_reader.biographies(all_people(corpus_reader), exposure, seed=7)
    }
    for document in documents:
        assert document.count(token) == (document[0] == token)
        assert (document[0] == token) == (document[document[0] == token :] in useful)


@settings(max_examples=10)
@given(calls=st.lists(st.integers(1, 60), min_size=1, max_size=6), kind=st.booleans())
def test_windows_mixed_within_do_not_depend_on_how_many_are_requested_at_once(
    load: Callable[[str], CorpusReader], calls: list[int], kind: bool
) -> None:
    windows_kind = "aligned" if kind else "packed"
    stream = load("bioS-within").stream(EXPOSURES, 7, windows_kind)
    expected, _ = stream.windows(sum(calls), SEQ_LENGTH, stream.start)
    position, parts = stream.start, []
    for number in calls:
        windows, position = stream.windows(number, SEQ_LENGTH, position)
        parts.append(windows)
    assert np.array_equal(np.concatenate(parts), expected)


def test_a_mixture_of_windows_has_the_name_it_had_before_there_was_another_unit() -> None:
    record = identity.record_json(mixed(bios("bioS", "GPT2")))
    assert "unit" not in record
    assert json.loads(identity.record_json(MIXED_WITHIN_WINDOWS["bioS-within"]))["mixture"]["unit"]
