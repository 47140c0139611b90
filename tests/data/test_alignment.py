"""Corpora that a law compares begin their windows with a biography equally often."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from knowcap.config import Corpus, Run, WindowKind
from knowcap.config.study import load_study
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.data.mixture import MixedStream

CONFIG = Path(__file__).parents[2] / "config"

STUDIES = sorted(path.stem for path in CONFIG.glob("*.yaml"))

NUM_WINDOWS = 4000


class StartShare(NamedTuple):
    """Share of windows that begin with an end of text, and what it is by chance."""

    measured: float
    by_chance: float
    num_windows: int

    @property
    def is_alignment(self) -> str:
        """`all` windows begin with a biography, or windows begin anywhere, `by chance`."""
        if self.measured == 1:
            return "all"
        # Four standard deviations of the share in as many independent windows.
        tolerance = 4 * (self.by_chance / self.num_windows) ** 0.5
        is_by_chance = abs(self.measured - self.by_chance) < tolerance
        return "by chance" if is_by_chance else f"{self.measured:.3f}, not {self.by_chance:.3f}"


def with_few_people(corpus: Corpus) -> Corpus:
    """The same kind of text about fewer people; a grammar replaces a language model."""
    changes = {"num_people": min(300, corpus.knowledge.num_people)}
    if corpus.knowledge.kind == "bioR":
        changes |= {"rewriter": "grammar", "num_versions": 4}
    knowledge = corpus.knowledge.model_copy(update=changes)
    mixture = corpus.mixture and corpus.mixture.model_copy(
        update={"num_junk_people": min(1000, corpus.mixture.num_junk_people)}
    )
    return corpus.model_copy(update={"knowledge": knowledge, "mixture": mixture})


def start_shares(
    corpus_reader: CorpusReader, seq_length: int, windows: WindowKind
) -> dict[str, StartShare]:
    """Shares of useful and of junk windows that begin with an end of text."""
    stream = corpus_reader.stream(10**6, 0, windows)
    first_tokens = stream.windows(NUM_WINDOWS, seq_length, stream.start)[0][:, 0]
    useful = np.ones(NUM_WINDOWS, dtype=bool)
    if isinstance(stream, MixedStream):
        useful = stream.useful_mask(0, NUM_WINDOWS, seq_length)
    shares = {}
    for kind, mask, writer in (
        ("useful", useful, corpus_reader._writer),
        ("junk", ~useful, corpus_reader._junk_writer),
    ):
        if mask.any():
            opening = writer.num_opening_tokens - corpus_reader._writer.num_opening_tokens
            length = corpus_reader.tokens_per_biography + opening
            share = float((first_tokens[mask] == 0).mean())
            shares[kind] = StartShare(share, 1 / length, int(mask.sum()))
    return shares


@pytest.fixture(scope="module")
def read_small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Corpus], CorpusReader]:
    @cache
    def read(corpus: Corpus) -> CorpusReader:
        folder = tmp_path_factory.mktemp("corpus")
        write_corpus(corpus, folder)
        return load_corpus(folder)

    return read


def alignments(run: Run, read: Callable[[Corpus], CorpusReader]) -> dict[str, str]:
    """Alignment of useful windows and of junk windows."""
    optimization = run.optimization
    shares = start_shares(
        read(with_few_people(run.corpus)), optimization.seq_length, optimization.windows
    )
    return {kind: share.is_alignment for kind, share in shares.items()}


@pytest.mark.parametrize("name", STUDIES)
def test_windows_of_corpora_that_a_law_compares_are_aligned_alike(
    name: str, read_small: Callable[[Corpus], CorpusReader]
) -> None:
    study = load_study(CONFIG / f"{name}.yaml")
    aligned: dict[tuple[Corpus, int, WindowKind], dict[str, str]] = {}
    found: dict[tuple[int, str], dict[str, str]] = {}
    for label, experiment in study.experiments.items():
        for run in experiment.runs:
            optimization = run.optimization
            key = with_few_people(run.corpus), optimization.seq_length, optimization.windows
            if key not in aligned:
                aligned[key] = alignments(run, read_small)
            for law in experiment.laws:
                of_law = found.setdefault((law, experiment.scale), {})
                for kind, alignment in aligned[key].items():
                    of_law[alignment] = f"{label}: {kind} windows"
    for (law, scale), by_alignment in found.items():
        assert list(by_alignment) in (["all"], ["by chance"]), (law, scale, by_alignment)


def test_a_domain_token_misaligns_packed_windows_and_not_aligned_ones(
    read_small: Callable[[Corpus], CorpusReader],
) -> None:
    study = load_study(CONFIG / "config.yaml")
    (run, *_) = study.experiments["domain-token"].runs
    packed = run.model_copy(
        update={"optimization": run.optimization.model_copy(update={"windows": "packed"})}
    )
    assert alignments(run, read_small) == {"useful": "all", "junk": "all"}
    assert alignments(packed, read_small) == {"useful": "all", "junk": "by chance"}
