r"""Reader and writer of Megatron-core's IndexedDataset files, in numpy.

``{prefix}.bin`` holds the tokens of all sequences, concatenated. ``{prefix}.idx`` holds, in little
endian: the nine bytes ``MMIDIDX\0\0``, the version 1 (u64), the code of the token type (u8; 4 is
int32), the numbers of sequences and of document boundaries (u64 each), then each sequence's
length in tokens (i32), each sequence's offset in bytes (i64), and the document boundaries as
sequence indices (i64). Here every sequence is a document. Files are compatible in both directions
with ``megatron.core.datasets.indexed_dataset``.
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
INT32_CODE = 4
HEADER = struct.Struct("<9sQBQQ")
TOKEN_DTYPE = np.dtype("<i4")


def write_index(path: Path, lengths: Int64) -> None:
    """Write the index of sequences of the given lengths, one document each."""
    stops = np.cumsum(lengths)
    with files.atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, INT32_CODE, lengths.size, lengths.size + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write(((stops - lengths) * TOKEN_DTYPE.itemsize).astype("<i8").tobytes())
        file.write(np.arange(lengths.size + 1, dtype="<i8").tobytes())


def read_dataset(prefix: Path) -> tuple[Int32, Int64]:
    """Memory-map the tokens of a dataset and read the lengths of its sequences.

    Parameters
    ----------
    prefix
        Path without ``.bin`` and ``.idx``.

    Raises
    ------
    UserError
        If a file is missing, truncated or has another format.
    """
    index_path, tokens_path = prefix.with_suffix(".idx"), prefix.with_suffix(".bin")
    for path in (index_path, tokens_path):
        if not path.exists():
            raise UserError(f"{path}: missing")
    index = index_path.read_bytes()
    if len(index) < HEADER.size:
        raise UserError(f"{index_path}: damaged, truncated")
    magic, version, code, num_sequences, num_boundaries = HEADER.unpack_from(index)
    if (magic, version, code) != (MAGIC, VERSION, INT32_CODE):
        raise UserError(f"{index_path}: damaged, not an index of int32 sequences")
    if len(index) != HEADER.size + 12 * num_sequences + 8 * num_boundaries:
        raise UserError(f"{index_path}: damaged, truncated")
    lengths = np.frombuffer(index, "<i4", num_sequences, HEADER.size).astype(np.int64)
    if tokens_path.stat().st_size != lengths.sum() * TOKEN_DTYPE.itemsize or not lengths.size:
        raise UserError(f"{tokens_path}: damaged, its size differs from that in {index_path.name}")
    return np.asarray(np.memmap(tokens_path, TOKEN_DTYPE, mode="r")), lengths
