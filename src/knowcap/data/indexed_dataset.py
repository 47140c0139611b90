r"""Megatron-core's IndexedDataset, as far as a corpus needs it, in numpy alone.

``{prefix}.bin`` holds the tokens of all sequences end to end. ``{prefix}.idx`` holds, in little
endian: the nine bytes ``MMIDIDX\0\0``, the version 1 (u64), the code of the tokens' type (u8; 4 is
int32), the numbers of sequences and of document borders (u64 each), and then for each sequence
its length (i32) and its place in bytes (i64), and the document borders in sequences (i64), which
here are all sequences. The format is that of ``megatron.core.datasets.indexed_dataset``, which
reads what is written here, and the other way round.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from knowcap.artifacts import files
from knowcap.data.token_templates import Int32, Int64
from knowcap.errors import UserError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
INT32 = 4
HEADER = struct.Struct("<9sQBQQ")
TOKEN = np.dtype("<i4")


def write_index(path: Path, lengths: Int64) -> None:
    """Write the index of sequences of given lengths, each a document of its own."""
    ends = np.cumsum(lengths)
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, INT32, lengths.size, lengths.size + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write(((ends - lengths) * TOKEN.itemsize).astype("<i8").tobytes())
        file.write(np.arange(lengths.size + 1, dtype="<i8").tobytes())


def read(prefix: Path) -> tuple[Int32, Int64]:
    """Map the tokens of a dataset into memory and read the lengths of its sequences.

    Parameters
    ----------
    prefix
        Path without ``.bin`` and ``.idx``.

    Raises
    ------
    UserError
        If a file is missing, truncated or of another format.
    """
    index, content = prefix.with_suffix(".idx"), prefix.with_suffix(".bin")
    for path in (index, content):
        if not path.exists():
            raise UserError(f"{path}: missing")
    header = index.read_bytes()
    if len(header) < HEADER.size:
        raise UserError(f"{index}: damaged, truncated")
    magic, version, code, num_sequences, num_borders = HEADER.unpack_from(header)
    if (magic, version, code) != (MAGIC, VERSION, INT32):
        raise UserError(f"{index}: damaged, not an index of sequences of int32")
    if len(header) != HEADER.size + 12 * num_sequences + 8 * num_borders:
        raise UserError(f"{index}: damaged, truncated")
    lengths = np.frombuffer(header, "<i4", num_sequences, HEADER.size).astype(np.int64)
    if content.stat().st_size != lengths.sum() * TOKEN.itemsize or not lengths.size:
        raise UserError(f"{content}: damaged, not of the length that {index.name} says")
    return np.asarray(np.memmap(content, TOKEN, mode="r")), lengths
