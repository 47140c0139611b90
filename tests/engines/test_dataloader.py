"""Windows from the dataloader: coverage, padding, blocks and resumption."""

from pathlib import Path

import numpy as np
import pytest
import torch

from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.engines.dataloader import batches
from tests.support.tiny import tiny_run

CPU = torch.device("cpu")
SEQ_LENGTH, BATCH_SIZE = 16, 4


@pytest.fixture(scope="module")
def corpus_reader(tmp_path_factory: pytest.TempPathFactory) -> CorpusReader:
    folder: Path = tmp_path_factory.mktemp("corpus")
    write_corpus(tiny_run().corpus, folder)
    return load_corpus(folder)


def read(streams, train_iters: int, **options) -> list:
    return list(batches(streams, SEQ_LENGTH, BATCH_SIZE, train_iters, device=CPU, **options))


def windows(steps: list) -> torch.Tensor:
    """[steps, R, B, S + 1]"""
    return torch.stack([tokens for _, tokens in steps])


def test_windows_cover_each_stream_once_and_are_padded_at_its_end(corpus_reader):
    streams = [corpus_reader.stream(2, seed) for seed in (0, 1)]
    reads = windows(read(streams, train_iters=20)).transpose(0, 1)
    for stream, steps in zip(streams, reads, strict=True):
        num_tokens = stream.num_tokens()
        inputs, targets = steps[..., :-1].flatten(), steps[..., 1:].flatten()
        expected, _ = stream.windows(1, num_tokens - 1, (0, 0))
        np.testing.assert_array_equal(inputs[:num_tokens], expected[0])
        np.testing.assert_array_equal(targets[: num_tokens - 1], expected[0, 1:])
        assert targets.numel() > num_tokens
        assert (targets[num_tokens - 1 :] == -1).all()


@pytest.mark.parametrize("block_tokens", [1, 130, 700, 10**6])
def test_windows_do_not_depend_on_the_block_size(corpus_reader, block_tokens):
    streams = [corpus_reader.stream(3, seed) for seed in (0, 1)]
    expected = windows(read(streams, train_iters=25, block_tokens=512))
    found = windows(read(streams, train_iters=25, block_tokens=block_tokens))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("iteration", [1, 4, 5, 24])
def test_reading_resumes_at_any_iteration_with_any_block_size(corpus_reader, iteration):
    streams = [corpus_reader.stream(3, seed) for seed in (0, 1)]
    steps = read(streams, train_iters=25, block_tokens=512)
    cursor, _ = steps[iteration - 1]
    rest = read(streams, 25, start=cursor, iteration=iteration, block_tokens=400)
    assert torch.equal(windows(rest), windows(steps[iteration:]))


def test_replicates_that_share_a_stream_read_equal_windows(corpus_reader):
    first, second = corpus_reader.stream(2, 0), corpus_reader.stream(2, 1)
    reads = windows(read([first, second, first], train_iters=5)).transpose(0, 1)
    assert torch.equal(reads[0], reads[2])
    assert not torch.equal(reads[0], reads[1])
