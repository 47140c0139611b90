"""Token streams of a run, and the dataloader, which renders windows in a background thread.

Shapes: R replicates, I iterations of a block, B windows, S positions of a window.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.data.corpus import CorpusReader
from knowcap.data.token_stream import Position, Stream, StreamLength

BLOCK_TOKENS = 2**20
"""Tokens of a block over all streams. The windows do not depend on it."""


class Cursor(NamedTuple):
    """The start of a block: an iteration, and the position of each stream."""

    iteration: int
    positions: tuple[Position, ...]


class TrainingData(NamedTuple):
    """The token streams of a run's replicates and their lengths."""

    streams: tuple[Stream, ...]
    """One per replicate; replicates of the same seed share one object."""
    stream_lengths: tuple[StreamLength, ...]
    """One per replicate."""
    train_iters: int
    """Optimizer steps until the longest stream is read; shorter streams are padded."""


def open_training_data(run: Run, corpus_reader: CorpusReader) -> TrainingData:
    """Return the token stream of each replicate and the number of optimizer steps."""
    exposures, seq_length = run.optimization.exposures, run.optimization.seq_length
    streams = {
        seed: corpus_reader.stream(exposures, seed, run.optimization.windows)
        for seed in run.replicates.seeds
    }
    stream_lengths = {seed: stream.length(seq_length) for seed, stream in streams.items()}
    num_windows = max(length.num_windows for length in stream_lengths.values())
    seeds = [seed for seed, _ in run.replicates.pairs]
    return TrainingData(
        streams=tuple(streams[seed] for seed in seeds),
        stream_lengths=tuple(stream_lengths[seed] for seed in seeds),
        train_iters=-(-num_windows // run.optimization.global_batch_size),
    )


def batches(
    streams: Sequence[Stream],
    seq_length: int,
    batch_size: int,
    train_iters: int,
    *,
    start: Cursor | None = None,
    iteration: int = 0,
    device: torch.device,
    block_tokens: int = BLOCK_TOKENS,
) -> Generator[tuple[Cursor, Tensor], None, None]:
    """Yield the windows of each step, while a thread renders the next block.

    Parameters
    ----------
    streams
        One per replicate; equal streams may be the same object and are then rendered once.
    train_iters
        Number of optimizer steps.
    start
        Start of the block that contains `iteration`, as yielded by this function; None for the
        start of the streams.
    iteration
        First step to yield.
    device
        Device of the windows. A block is copied to it as a whole.
    block_tokens
        Tokens of a block over all streams.

    Yields
    ------
    tuple
        Start of the step's block, and the step's windows [R, B, S + 1] in int32, -1 beyond the end
        of a stream.
    """
    distinct = list(dict.fromkeys(streams))
    replicate_R = torch.tensor([distinct.index(stream) for stream in streams], device=device)
    all_distinct = len(distinct) == len(streams)
    cursor = start or Cursor(0, tuple(stream.start for stream in distinct))
    step_tokens = len(distinct) * batch_size * seq_length
    per_block = max(1, block_tokens // step_tokens)

    def render(cursor: Cursor) -> tuple[Tensor, Cursor]:
        num_iters = min(per_block, train_iters - cursor.iteration)
        blocks, positions = zip(
            *(
                stream.windows(num_iters * batch_size, seq_length, position)
                for stream, position in zip(distinct, cursor.positions, strict=True)
            ),
            strict=True,
        )
        windows = torch.from_numpy(np.stack(blocks))
        windows = windows.view(len(distinct), num_iters, batch_size, seq_length + 1)
        windows = windows.pin_memory() if device.type == "cuda" else windows
        return windows, Cursor(cursor.iteration + num_iters, positions)

    with ThreadPoolExecutor(1, thread_name_prefix="render") as pool:
        rendering = pool.submit(render, cursor)
        while cursor.iteration < train_iters:
            windows, next_cursor = rendering.result()
            if next_cursor.iteration < train_iters:
                rendering = pool.submit(render, next_cursor)
            windows = windows.to(device, non_blocking=True)
            for window in windows.unbind(1)[max(0, iteration - cursor.iteration) :]:
                # without shared streams, this is a view
                yield cursor, window if all_distinct else window[replicate_R]
            cursor = next_cursor
