"""Bits and tokens of knowledge: of people of bioS, and of a text as an upper bound."""

from __future__ import annotations

import bz2
import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from knowcap.capacity.bit_complexity import SCORINGS, bit_complexity
from knowcap.config.knowledge import BioS
from knowcap.data.people import CARDINALITIES
from knowcap.errors import UserError

CHUNK_BYTES = 1 << 20


def bits_of_people(num_people: int) -> float:
    """Bits of the names and values of bioS, as counted for a model that knows everything.

    This is ``max_bits`` of :func:`~knowcap.capacity.bit_complexity.bit_complexity`: with N0
    possible names and S0 combinations of values, N log2(N0 / N) + N log2 S0 (paper, Definition
    4.3).
    """
    knowledge = BioS(kind="bioS", num_people=num_people, seed=0)
    facts = {
        "num_people": num_people,
        "num_names": knowledge.num_names,
        "attributes": [{"name": name, "cardinality": size} for name, size in CARDINALITIES.items()],
        "diversity": None,
    }
    # The maximum does not depend on the losses.
    dims = ("replicate", "person", "attribute")
    of_names = xr.Variable(dims[:2], np.zeros((1, 1)))
    of_values = xr.Variable(dims, np.zeros((1, 1, len(CARDINALITIES))))
    losses = xr.Dataset(
        {
            loss: variable
            for pair in SCORINGS.values()
            for loss, variable in zip(pair, (of_names, of_values), strict=True)
        },
        coords={"attribute": list(CARDINALITIES)},
    )
    return float(bit_complexity(losses, facts)["max_bits"])


class TextSize(NamedTuple):
    """Size of a text."""

    num_bits: int
    """Bits of the compressed text: an upper bound of its information."""
    compressor: str
    """Compressor of the standard library with the smaller result."""
    num_tokens: int
    """Tokens of GPT-2's tokenizer."""
    num_distinct: int
    """Distinct ones among them."""


def size_of_text(path: Path) -> TextSize:
    """Compress a UTF-8 text by lzma and bz2, and count its tokens.

    Raises
    ------
    UserError
        If the file is missing, empty or not a UTF-8 text.
    """
    from knowcap.data.tokenizer import gpt2_tokenizer

    sizes = _compressed_sizes(path)
    compressor = min(sizes, key=sizes.__getitem__)
    tokenizer, num_tokens = gpt2_tokenizer(), 0
    used: set[int] = set()
    try:
        with path.open(encoding="utf-8") as file:
            while lines := file.readlines(CHUNK_BYTES):
                ids = [each.ids for each in tokenizer.encode_batch(lines)]
                num_tokens += sum(map(len, ids))
                used.update(*ids)
    except UnicodeDecodeError as error:
        raise UserError(f"--text: {path}: not a UTF-8 text ({error.reason})") from None
    return TextSize(8 * sizes[compressor], compressor, num_tokens, len(used))


def _compressed_sizes(path: Path) -> dict[str, int]:
    """Bytes of a file compressed by each compressor."""
    compressors: dict[str, lzma.LZMACompressor | bz2.BZ2Compressor] = {
        "lzma": lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME),
        "bz2": bz2.BZ2Compressor(9),
    }
    sizes = dict.fromkeys(compressors, 0)
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                for name, compressor in compressors.items():
                    sizes[name] += len(compressor.compress(data))
            if not file.tell():
                raise UserError(f"--text: {path}: empty")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"--text: {path}: cannot be read: {error.strerror}") from None
    return {name: sizes[name] + len(each.flush()) for name, each in compressors.items()}
