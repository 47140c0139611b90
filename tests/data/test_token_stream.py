import hashlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowcap.data import biod, token_stream
from knowcap.data.corpus import CorpusReader
from knowcap.data.token_stream import TokenStream
from tests.data.conftest import CORPORA, MIXED, NUM_PEOPLE, all_people

EXPOSURES = 3


def read_stream(stream: TokenStream) -> np.ndarray:
    """All tokens of a stream."""
    windows, _ = stream.windows(1, stream.num_tokens() - 1, (0, 0))
    return windows[0]


def split_biographies(tokens: np.ndarray) -> list[tuple[int, ...]]:
    """Tokens between the ends of text."""
    ends = np.flatnonzero(tokens == 0)
    return [tuple(part[1:].tolist()) for part in np.split(tokens, ends)[1:]]


def test_each_exposure_has_every_biography_once(corpus_reader: CorpusReader) -> None:
    stream = corpus_reader.stream(EXPOSURES, seed=7)
    *documents, last = split_biographies(read_stream(stream))
    assert last == ()
    num_people = corpus_reader.corpus.knowledge.num_people
    for exposure in range(EXPOSURES):
        texts = corpus_reader.biographies(all_people(corpus_reader), exposure, seed=7)
        part = documents[exposure * num_people : (exposure + 1) * num_people]
        decoded = corpus_reader._tokenizer.decode_batch([list(tokens) for tokens in part])
        assert Counter(decoded) == Counter(texts)
        assert decoded != texts
    assert len(documents) == EXPOSURES * num_people


def test_every_exposure_has_another_order_of_people(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioS-simple-GPT2")
    num_people = corpus_reader.corpus.knowledge.num_people
    *documents, _ = split_biographies(read_stream(corpus_reader.stream(2, seed=7)))
    assert documents[:num_people] != documents[num_people:]
    assert sorted(documents[:num_people]) == sorted(documents[num_people:])


@pytest.mark.parametrize("name", [name for name in CORPORA | MIXED if name.startswith("bioD")])
def test_c_and_numpy_assemble_the_same_biographies(
    load: Callable[[str], CorpusReader], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = load(name).stream(2, seed=7)
    compiled, _ = stream.windows(50, 64, stream.start)
    monkeypatch.setattr(biod, "load_c_extension", lambda source: None)
    in_numpy, _ = stream.windows(50, 64, stream.start)
    assert np.array_equal(compiled, in_numpy)


@pytest.mark.parametrize("exposures", [1, 2, 3, 7])
def test_num_tokens_is_the_number_of_tokens_written(
    corpus_reader: CorpusReader, exposures: int
) -> None:
    stream = corpus_reader.stream(exposures, seed=7)
    windows, _ = stream.windows(1, stream.num_tokens() + 10, (0, 0))
    assert (windows >= 0).sum() == stream.num_tokens()


@pytest.mark.parametrize("name", ["bioS-GPT2", "bioS-Mistral", "bioS-word", "bioS-domain"])
def test_length_statistics_match_a_sample_of_random_wordings(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    writer = load(name)._writer
    person_ids = np.arange(200_000)
    sample = writer.count_wording_tokens(person_ids, person_ids % 11, seed=3)
    mean, shortest, longest = writer.wording_length_statistics()
    standard_error = sample.std() / np.sqrt(sample.size)
    assert mean == pytest.approx(sample.mean(), abs=4 * standard_error)
    assert shortest <= sample.min()
    assert longest >= sample.max()


@pytest.mark.parametrize("name", ["bioS-GPT2", "bioS-Mistral", "bioS-word"])
def test_the_upper_bound_of_tokens_is_tight(
    load: Callable[[str], CorpusReader], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = load(name).stream(1000, seed=7).num_tokens()
    monkeypatch.setattr(
        token_stream, "MAX_COUNTED_DOCUMENTS", 1000 * all_people(load(name)).size - 1
    )
    stream = load(name).stream(1000, seed=7)
    _, shortest, longest = load(name)._writer.wording_length_statistics()
    assert counted <= stream.num_tokens() <= 1.02 * counted
    assert (stream.num_tokens() > counted) == (shortest < longest)


def test_num_tokens_is_exact_if_lengths_repeat(
    load: Callable[[str], CorpusReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("bioS-simple-GPT2", "bioD-sentences", "bioD-versions")
    counted = [load(name).stream(7, seed=7).num_tokens() for name in names]
    monkeypatch.setattr(token_stream, "MAX_COUNTED_DOCUMENTS", 0)
    assert [load(name).stream(7, seed=7).num_tokens() for name in names] == counted


def test_a_trillion_exposures_are_counted_without_a_pass_over_them(
    load: Callable[[str], CorpusReader],
) -> None:
    for name in ("bioS-GPT2", "bioS-simple-GPT2", "bioD-compact"):
        corpus_reader = load(name)
        few, many = (corpus_reader.stream(n, seed=7).num_tokens() for n in (1000, 10**12))
        assert many / few == pytest.approx(10**9, rel=1e-3)


def test_windows_after_the_end_are_padding(corpus_reader: CorpusReader) -> None:
    stream = corpus_reader.stream(1, seed=7)
    windows, position = stream.windows(2, stream.num_tokens(), (0, 0))
    assert windows[0, -1] == -1
    assert (windows[1] == -1).all()
    again, after = stream.windows(3, 8, position)
    assert (again == -1).all()
    assert after == position


def test_a_window_begins_with_the_last_token_of_the_one_before(corpus_reader: CorpusReader) -> None:
    windows, _ = corpus_reader.stream(1, seed=7).windows(20, 13, (0, 0))
    assert windows.shape == (20, 14)
    assert windows.dtype == np.int32
    assert np.array_equal(windows[1:, 0], windows[:-1, -1])
    assert windows[0, 0] == 0


@pytest.mark.parametrize("name", ["bioS-word", "bioD-compact"])
@settings(max_examples=30)
@given(
    seq_length=st.integers(1, 200),
    calls=st.lists(st.integers(1, 60), min_size=1, max_size=12),
)
def test_windows_do_not_depend_on_how_many_are_requested_at_once(
    load: Callable[[str], CorpusReader], name: str, seq_length: int, calls: list[int]
) -> None:
    stream = load(name).stream(EXPOSURES, seed=7)
    expected = read_stream(stream)
    position, tokens = (0, 0), [0]
    for num_windows in calls:
        windows, position = stream.windows(num_windows, seq_length, position)
        tokens += windows[:, 1:].ravel().tolist()
    length = min(len(tokens), expected.size)
    assert tokens[:length] == expected[:length].tolist()
    assert set(tokens[length:]) <= {-1}


@pytest.mark.parametrize("block_tokens", [1, 100, 5000])
def test_windows_do_not_depend_on_the_block_size(
    load: Callable[[str], CorpusReader], monkeypatch: pytest.MonkeyPatch, block_tokens: int
) -> None:
    stream = load("bioS-word").stream(1, seed=7)
    expected = read_stream(stream)
    monkeypatch.setattr(token_stream, "BLOCK_TOKENS", block_tokens)
    assert np.array_equal(read_stream(stream), expected)


def test_different_seeds_give_different_streams(corpus_reader: CorpusReader) -> None:
    first, second = (corpus_reader.stream(1, seed).windows(1, 500, (0, 0))[0] for seed in (0, 1))
    assert (first != second).any()


def test_no_token_is_outside_the_vocabulary(corpus_reader: CorpusReader) -> None:
    tokens = read_stream(corpus_reader.stream(EXPOSURES, seed=1))
    assert tokens.min() == corpus_reader.eos == 0
    assert tokens.max() < corpus_reader.vocab_size


def test_no_biography_is_longer_than_longest_biography(corpus_reader: CorpusReader) -> None:
    lengths = [
        1 + len(tokens)
        for tokens in split_biographies(read_stream(corpus_reader.stream(20, seed=1)))
    ]
    assert max(lengths) <= corpus_reader.longest_biography
    mean = np.mean(lengths[:-1])
    # The metadata's mean is over one exposure.
    assert mean == pytest.approx(corpus_reader.tokens_per_biography, rel=0.02)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("bioD-compact", "f793289ae570e2b0"),
        ("bioD-sentences", "b9efcdaed37beec2"),
        ("bioS-word", "9705ade139aa4d62"),
        ("bioS-GPT2", "ed8d7d626fd911c3"),
    ],
)
def test_tokens_have_not_changed_since_they_were_recorded(
    load: Callable[[str], CorpusReader], name: str, digest: str
) -> None:
    # Another digest means other data: all models would have to be trained again.
    tokens = read_stream(load(name).stream(EXPOSURES, seed=7)).astype("<i4")
    assert hashlib.sha256(tokens.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("name", ["bioS-GPT2", "bioD-versions"])
@pytest.mark.parametrize("per_window", [1, 3])
def test_aligned_windows_hold_whole_biographies_in_the_order_of_the_packed_stream(
    load: Callable[[str], CorpusReader], name: str, per_window: int
) -> None:
    corpus_reader = load(name)
    seq_length = corpus_reader.longest_biography * (per_window + 1) - 1
    stream = corpus_reader.stream(EXPOSURES, 7, "aligned")
    num_windows, num_tokens = stream.length(seq_length)
    assert num_windows == NUM_PEOPLE * EXPOSURES // per_window
    windows, _ = stream.windows(num_windows, seq_length, stream.start)
    assert (windows[:, 1:] >= 0).sum() == num_tokens - 1
    biographies = []
    for window in windows:
        tokens = window[window >= 0]
        assert (window[tokens.size :] == -1).all()
        ends = np.flatnonzero(tokens == 0)
        assert (ends[0], ends[-1], ends.size) == (0, tokens.size - 1, per_window + 1)
        biographies += split_biographies(tokens)[:-1]
    assert biographies == split_biographies(read_stream(corpus_reader.stream(EXPOSURES, 7)))[:-1]


def test_aligned_and_packed_windows_are_equal_if_biographies_fill_them(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioD-compact")
    seq_length = 2 * corpus_reader.longest_biography
    packed, aligned = (corpus_reader.stream(EXPOSURES, 7, kind) for kind in ("packed", "aligned"))
    assert packed.length(seq_length) == aligned.length(seq_length)
    number = packed.length(seq_length).num_windows
    assert np.array_equal(
        packed.windows(number, seq_length, packed.start)[0],
        aligned.windows(number, seq_length, aligned.start)[0],
    )


@settings(max_examples=20)
@given(calls=st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_aligned_windows_do_not_depend_on_how_many_are_requested_at_once(
    load: Callable[[str], CorpusReader], calls: list[int]
) -> None:
    stream = load("bioS-domain").stream(EXPOSURES, 7, "aligned")
    expected, _ = stream.windows(sum(calls), 260, stream.start)
    position, parts = stream.start, []
    for number in calls:
        windows, position = stream.windows(number, 260, position)
        parts.append(windows)
    assert np.array_equal(np.concatenate(parts), expected)
