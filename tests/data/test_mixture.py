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
from knowcap.data.corpus import CorpusReader, load_corpus, write_corpus
from knowcap.data.mixture import MixedStream
from knowcap.data.tokenizer import DOMAIN_TOKEN, END_OF_TEXT
from tests.data.conftest import MIXED, biod, bios, everybody, mixed

EXPOSURES = 3
SEQ_LENGTH = 150


@pytest.fixture(params=MIXED)
def corpus_reader(
    request: pytest.FixtureRequest, load: Callable[[str], CorpusReader]
) -> CorpusReader:
    return load(request.param)


def opened(corpus_reader: CorpusReader, seed: int = 7) -> MixedStream:
    stream = corpus_reader.stream(EXPOSURES, seed)
    assert isinstance(stream, MixedStream)
    return stream


def windows_of(stream: MixedStream) -> tuple[np.ndarray, np.ndarray]:
    """Useful windows and those of junk."""
    number = stream.length(SEQ_LENGTH).num_windows
    windows, _ = stream.windows(number, SEQ_LENGTH, stream.start)
    is_useful = stream.useful_mask(0, number, SEQ_LENGTH)
    return windows[is_useful], windows[~is_useful]


def read(windows: np.ndarray) -> np.ndarray:
    """The text that consecutive windows were cut from."""
    text = np.append(windows[0, 0], windows[:, 1:].ravel())
    assert np.array_equal(windows[1:, 0], windows[:-1, -1])
    return text[text >= 0]


def biographies(tokens: np.ndarray) -> list[tuple[int, ...]]:
    """What stands between ends of text, without the last piece, which a window's end may cut."""
    parts = np.split(tokens, np.flatnonzero(tokens == 0))[1:-1]
    return [tuple(part[1:].tolist()) for part in parts]


def texts(corpus_reader: CorpusReader, tokens: np.ndarray) -> list[str]:
    return corpus_reader._tokenizer.decode_batch([list(each) for each in biographies(tokens)])


def names(corpus_reader: CorpusReader) -> dict[str, int]:
    """The first three words of everybody's biography, and who that is."""
    person = np.arange(corpus_reader.corpus.num_described)
    rows = corpus_reader._junk_writer.write_facts(person)[:, :3]
    templates = corpus_reader._junk_writer.templates
    spelled = corpus_reader._tokenizer.decode_batch(
        [templates.gather_tokens(row).tolist() for row in rows]
    )
    return dict(zip(spelled, person.tolist(), strict=True))


def subjects(corpus_reader: CorpusReader, tokens: np.ndarray) -> list[int]:
    """Who the biographies of a text are about."""
    known = names(corpus_reader)
    found = []
    for text in texts(corpus_reader, tokens):
        words = text.replace("'s", " 's").split(" ")
        found.append(known[" ".join(words[:4])])
    return found


def test_everybody_useful_is_read_about_exactly_as_often_as_asked(
    corpus_reader: CorpusReader,
) -> None:
    useful, _ = windows_of(opened(corpus_reader))
    read_texts = Counter(texts(corpus_reader, read(useful)))
    expected: Counter[str] = Counter()
    for exposure in range(EXPOSURES):
        expected.update(corpus_reader.biographies(everybody(corpus_reader), exposure, seed=7))
    assert read_texts == expected


@pytest.mark.parametrize("name", MIXED)
def test_the_share_of_useful_windows_is_exact(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    useful, junk = windows_of(opened(load(name)))
    mixture = MIXED[name].mixture
    assert mixture is not None
    assert len(useful) + len(junk) == round(len(useful) / mixture.useful_share)


def test_windows_are_pure_and_junk_is_about_others(corpus_reader: CorpusReader) -> None:
    useful, junk = windows_of(opened(corpus_reader))
    num_people = corpus_reader.corpus.knowledge.num_people
    assert set(subjects(corpus_reader, read(useful))) == set(range(num_people))
    others = set(subjects(corpus_reader, read(junk)))
    assert num_people <= min(others) <= max(others) < corpus_reader.corpus.num_described


def test_junk_about_many_is_rare_and_junk_about_few_repeats_itself(
    load: Callable[[str], CorpusReader],
) -> None:
    counts = {}
    for name in ("bioD-junk", "bioD-repeated"):
        _, junk = windows_of(opened(load(name)))
        counts[name] = Counter(subjects(load(name), read(junk)))
    assert max(counts["bioD-junk"].values()) <= 4  # 1260 draws from 7940
    assert sorted(counts["bioD-repeated"]) == [60, 61, 62]
    assert min(counts["bioD-repeated"].values()) > 60  # of 270 draws from 3


def test_junk_is_drawn_with_replacement(load: Callable[[str], CorpusReader]) -> None:
    corpus_reader = load("bioS-junk")
    _, junk = windows_of(opened(corpus_reader))
    drawn = Counter(subjects(corpus_reader, read(junk)))
    number = sum(drawn.values())
    # Those never drawn are about a share exp(-number / 500), with a standard deviation below 10.
    assert 500 - len(drawn) == pytest.approx(500 * np.exp(-number / 500), abs=50)


def test_people_and_names_are_nobody_elses(corpus_reader: CorpusReader) -> None:
    assert len(names(corpus_reader)) == corpus_reader.corpus.num_described


def test_useful_people_are_those_of_the_corpus_without_junk(
    load: Callable[[str], CorpusReader],
) -> None:
    assert load("bioS-junk").biographies(np.arange(60), 2, 3) == load("bioS-GPT2").biographies(
        np.arange(60), 2, 3
    )


@pytest.mark.parametrize("name", ["bioS-junk", "bioD-repeated", "bioD-domain"])
@settings(max_examples=20)
@given(calls=st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_the_stream_is_the_same_however_it_is_cut(
    load: Callable[[str], CorpusReader], name: str, calls: list[int]
) -> None:
    stream = opened(load(name))
    expected, _ = stream.windows(sum(calls), SEQ_LENGTH, stream.start)
    position, parts = stream.start, []
    for number in calls:
        windows, position = opened(load(name)).windows(number, SEQ_LENGTH, position)
        parts.append(windows)
    assert np.array_equal(np.concatenate(parts), expected)


def test_the_stream_does_not_depend_on_the_block(
    load: Callable[[str], CorpusReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = windows_of(opened(load("bioS-domain")))
    monkeypatch.setattr(token_stream, "BLOCK_TOKENS", 100)
    for part, same in zip(windows_of(opened(load("bioS-domain"))), expected, strict=True):
        assert np.array_equal(part, same)


def test_past_the_end_there_is_padding_only(corpus_reader: CorpusReader) -> None:
    stream = opened(corpus_reader)
    number = stream.length(SEQ_LENGTH).num_windows
    windows, position = stream.windows(number + 3, SEQ_LENGTH, stream.start)
    assert (windows[number:] == -1).all()
    assert (windows[:number, 0] >= 0).all()
    again, after = stream.windows(2, SEQ_LENGTH, position)
    assert (again == -1).all()
    assert after == position


def test_the_extent_counts_the_tokens(corpus_reader: CorpusReader) -> None:
    stream = opened(corpus_reader)
    number, num_tokens = stream.length(SEQ_LENGTH)
    windows, _ = stream.windows(number, SEQ_LENGTH, stream.start)
    assert (windows[:, 1:] >= 0).sum() == num_tokens - 1


def test_useful_windows_come_in_an_order_of_the_seed(corpus_reader: CorpusReader) -> None:
    number = opened(corpus_reader).length(SEQ_LENGTH).num_windows
    first, other = (opened(corpus_reader, s).useful_mask(0, number, SEQ_LENGTH) for s in (0, 1))
    assert first.tolist() != sorted(first, reverse=True)
    assert first.tolist() != other[: first.size].tolist()


@pytest.mark.parametrize("name", ["bioS-domain", "bioS-simple-domain", "bioD-domain"])
def test_the_domain_token_is_in_front_of_useful_biographies_and_of_no_junk(
    corpus_folder: Callable[[str], Path], load: Callable[[str], CorpusReader], name: str
) -> None:
    facts = json.loads((corpus_folder(name) / "corpus.json").read_text())
    token = facts["domain_token"]
    assert token == facts["vocab_size"] - 1
    assert load(name)._tokenizer.id_to_token(token) == DOMAIN_TOKEN
    useful, junk = windows_of(opened(load(name)))
    assert all(tokens[0] == token for tokens in biographies(read(useful)))
    assert sum(tokens.count(token) for tokens in biographies(read(useful))) == 60 * EXPOSURES
    assert (junk != token).all()


def test_without_a_domain_token_there_is_none(corpus_folder: Callable[[str], Path]) -> None:
    folder = corpus_folder("bioS-junk")
    assert json.loads((folder / "corpus.json").read_text())["domain_token"] is None
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(DOMAIN_TOKEN) is None


def test_questions_begin_as_useful_biographies_do(corpus_reader: CorpusReader) -> None:
    useful, _ = windows_of(opened(corpus_reader))
    opening = corpus_reader._writer.templates.gather_tokens(
        np.array([corpus_reader._writer.opening_id])
    )
    assert np.array_equal(read(useful)[: opening.size], opening)
    people = everybody(corpus_reader)
    for prompts in (
        corpus_reader.name_prompts(people, 1),
        corpus_reader.attribute_prompts(people, 1),
        corpus_reader.biography_prompts(people, 1),
    ):
        assert (prompts.tokens[:, : opening.size] == opening).all()
        assert (prompts.field[:, : opening.size] == -1).all()
    name = corpus_reader.name_prompts(people, 1)
    assert ((name.field == 0).argmax(axis=1) == opening.size).all()


def test_the_vocabulary_has_the_tokens_of_both_and_no_others(
    load: Callable[[str], CorpusReader],
) -> None:
    few, many = load("bioS-simple-domain"), load("bioS-junk")
    for corpus_reader in (few, many):
        useful, junk = windows_of(opened(corpus_reader))
        assert max(useful.max(), junk.max()) < corpus_reader.vocab_size
    assert load("bioS-GPT2").vocab_size < many.vocab_size


def test_text_and_lengths_know_of_the_domain_token(load: Callable[[str], CorpusReader]) -> None:
    plain, marked = load("bioS-junk"), load("bioS-domain")
    assert marked.biographies(np.arange(9), 0, 0) == plain.biographies(np.arange(9), 0, 0)
    assert marked.longest_biography == plain.longest_biography + 1
    assert marked.tokens_per_biography == pytest.approx(plain.tokens_per_biography + 1)
    (text,) = marked.biographies(np.array([4]), 0, 0)
    row = marked._writer.write_biographies(np.array([4]), np.array([0]), 0)
    whole = marked._tokenizer.encode(END_OF_TEXT + DOMAIN_TOKEN + text).ids
    assert marked._writer.templates.gather_tokens(row).tolist() == whole


def test_a_hundred_million_junk_people_take_no_room(tmp_path: Path) -> None:
    corpus = mixed(biod("sentences"), num_junk_people=100_000_000)
    write_corpus(corpus, tmp_path)
    stream = load_corpus(tmp_path).stream(1, 0)
    windows, _ = stream.windows(5, SEQ_LENGTH, stream.start)
    assert windows.min() >= 0


def test_names_must_suffice_for_junk_people() -> None:
    corpus = biod("compact").model_dump()
    junk = {"useful_share": 0.125, "num_junk_people": 20**3 - 59, "domain_token": False}
    with pytest.raises(ValidationError, match=r"7941 junk people .* 60 useful people leave 7940"):
        Corpus.model_validate(corpus | {"mixture": junk})


def test_a_corpus_without_mixture_is_called_as_before_there_were_any() -> None:
    assert "mixture" not in json.loads(identity.record_json(bios("bioS", "GPT2")))
    pure, junk = bios("bioS", "GPT2"), mixed(bios("bioS", "GPT2"))
    assert identity.corpus_name(pure) != identity.corpus_name(junk)


def test_junk_facts_are_independent_of_useful_ones() -> None:
    knowledge = bios("bioS", "GPT2").knowledge
    useful = people.attribute_ids(knowledge, np.arange(20_000))
    junk = people.attribute_ids(knowledge, np.arange(20_000, 40_000))
    for name, size in people.CARDINALITIES.items():
        agree = (useful[name] == junk[name]).mean()
        assert agree == pytest.approx(1 / size, abs=6 * (1 / size / 20_000) ** 0.5)
