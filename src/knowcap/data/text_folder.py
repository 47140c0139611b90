"""Text folder: a corpus as text and tokens, with facts and tokenizer, for any trainer."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from knowcap.artifacts import files
from knowcap.artifacts.optional_library import import_library
from knowcap.config import Corpus
from knowcap.data import indexed_dataset
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_metadata import METADATA_FILE
from knowcap.data.corpus_texts import BiographyBlock, CorpusTexts
from knowcap.data.corpus_writer import write_corpus
from knowcap.data.token_templates import Int32
from knowcap.data.tokenizer_folder import write_tokenizer_folder
from knowcap.errors import UserError

TextFormat = Literal["jsonl", "tokens", "megatron", "datasets"]
"""Formats of the biographies; docs/any-model.md describes the files."""

CORPUS_FOLDER, TOKENIZER_FOLDER, PEOPLE_FILE = "corpus", "tokenizer", "people.csv"


class TextSummary(NamedTuple):
    """Counts of a text folder."""

    num_biographies: int
    num_tokens: int
    """Of the training stream, with all ends of text."""
    vocab_size: int


def write_text_folder(
    corpus: Path | Corpus,
    folder: Path,
    exposures: int,
    seed: int,
    formats: Sequence[TextFormat],
) -> TextSummary:
    """Write biographies in training order, people, tokenizer and corpus to a new folder.

    Parameters
    ----------
    corpus
        Folder of a corpus, or a record, of which a corpus is made.
    folder
        Created whole at the end; must not exist, or be empty.
    exposures, seed
        As in :meth:`knowcap.data.corpus.CorpusReader.stream`: the biographies are those of the
        training stream with this seed, in its order.
    formats
        Formats of the biographies.

    Raises
    ------
    UserError
        If the folder has files, the corpus is missing, damaged, has junk or needs a language model
        to be made, or if a library is missing.
    """
    files.check_new_folder(folder)
    if "datasets" in formats:
        import_library("datasets", "--format datasets")
    if isinstance(corpus, Corpus):
        _check_record(corpus)
    with files.atomic_folder(folder) as staging:
        source = staging / CORPUS_FOLDER
        if isinstance(corpus, Corpus):
            write_corpus(corpus, source)
        else:
            load_corpus(corpus)
            shutil.copytree(corpus, source, ignore=shutil.ignore_patterns(".*"))
        texts = CorpusTexts(load_corpus(source))
        summary = _write_biographies(texts, staging, exposures, seed, formats)
        _write_people(texts, staging / PEOPLE_FILE)
        write_tokenizer_folder(texts, staging / TOKENIZER_FOLDER)
    return summary


def find_corpus_folder(folder: Path) -> Path:
    """Return the folder of the corpus of a text folder, or the folder itself."""
    inner = folder / CORPUS_FOLDER
    return inner if (inner / METADATA_FILE).exists() else folder


def _check_record(corpus: Corpus) -> None:
    """Raise a UserError for a corpus that takes hours to make."""
    knowledge = corpus.knowledge
    if knowledge.kind == "bioR" and knowledge.rewriter != "grammar":
        raise UserError(
            f"knowledge.rewriter: {knowledge.rewriter_name!r} rewrites for hours; make the corpus "
            "with `knowcap corpus` and give its folder"
        )


def _write_biographies(
    texts: CorpusTexts, folder: Path, exposures: int, seed: int, formats: Sequence[TextFormat]
) -> TextSummary:
    """Write the biographies in all formats; return their counts."""
    writers = [_WRITERS[name](folder, texts) for name in get_args(TextFormat) if name in formats]
    num_biographies = num_tokens = 0
    for block in texts.biographies_in_order(exposures, seed):
        num_biographies += len(block.texts)
        num_tokens += sum(map(len, block.tokens))
        for writer in writers:
            writer.add(block)
    summary = TextSummary(num_biographies, num_tokens + num_biographies + 1, texts.vocab_size)
    for writer in writers:
        writer.close(summary, exposures, seed)
    return summary


class _Writer(ABC):
    """Writes biographies in one format."""

    def __init__(self, folder: Path, texts: CorpusTexts) -> None:
        self.folder = folder
        self.end = texts.eos
        self.vocab_size = texts.vocab_size

    @abstractmethod
    def add(self, block: BiographyBlock) -> None:
        """Write the next biographies."""

    @abstractmethod
    def close(self, summary: TextSummary, exposures: int, seed: int) -> None:
        """Finish the files."""

    def _with_ends(self, block: BiographyBlock) -> Int32:
        """Tokens of all biographies, with an end of text after each."""
        return np.array(
            [token for row in block.tokens for token in (*row, self.end)], dtype=np.int32
        )


class _JsonLinesWriter(_Writer):
    """``biographies.jsonl``: text, person and exposure of each biography."""

    file_name = "biographies.jsonl"

    def __init__(self, folder: Path, texts: CorpusTexts) -> None:
        super().__init__(folder, texts)
        self._file = (folder / self.file_name).open("w", encoding="utf-8")

    def add(self, block: BiographyBlock) -> None:
        """Write a line per biography."""
        columns = zip(block.texts, block.person.tolist(), block.exposure.tolist(), strict=True)
        rows = (dict(zip(_COLUMNS, row, strict=True)) for row in columns)
        self._file.writelines(json.dumps(row) + "\n" for row in rows)

    def close(self, summary: TextSummary, exposures: int, seed: int) -> None:
        """Close the file."""
        self._file.close()


class _TokensWriter(_Writer):
    """``tokens.bin``: the training stream as unsigned integers; ``tokens.json`` describes it."""

    def __init__(self, folder: Path, texts: CorpusTexts) -> None:
        super().__init__(folder, texts)
        self.dtype = np.dtype("<u2" if self.vocab_size <= 2**16 else "<u4")
        self._file = (folder / "tokens.bin").open("wb")
        self._file.write(np.array([self.end], self.dtype).tobytes())

    def add(self, block: BiographyBlock) -> None:
        """Append tokens."""
        self._file.write(self._with_ends(block).astype(self.dtype).tobytes())

    def close(self, summary: TextSummary, exposures: int, seed: int) -> None:
        """Close the file and write its description."""
        self._file.close()
        description = {
            "format": files.FORMAT,
            "dtype": self.dtype.name,
            **summary._asdict(),
            "end_of_text": self.end,
            "exposures": exposures,
            "seed": seed,
        }
        files.write_json(self.folder / "tokens.json", description)


class _MegatronWriter(_Writer):
    """``megatron.bin`` and ``megatron.idx``: a document per biography, which ends its text.

    So Megatron's ``preprocess_data.py --append-eod`` writes documents.
    """

    def __init__(self, folder: Path, texts: CorpusTexts) -> None:
        super().__init__(folder, texts)
        self._file = (folder / "megatron.bin").open("wb")
        self._lengths: list[int] = []

    def add(self, block: BiographyBlock) -> None:
        """Append documents."""
        self._file.write(self._with_ends(block).astype(indexed_dataset.TOKEN_DTYPE).tobytes())
        self._lengths += [len(row) + 1 for row in block.tokens]

    def close(self, summary: TextSummary, exposures: int, seed: int) -> None:
        """Close the file and write the index of documents."""
        self._file.close()
        indexed_dataset.write_index(self.folder / "megatron.idx", np.array(self._lengths))


class _DatasetsWriter(_JsonLinesWriter):
    """``dataset/``, which ``datasets.load_from_disk`` reads, with the columns of the JSON lines."""

    file_name = ".dataset.jsonl"

    def close(self, summary: TextSummary, exposures: int, seed: int) -> None:
        """Convert the lines to a dataset."""
        super().close(summary, exposures, seed)
        datasets: Any = import_library("datasets", "--format datasets")
        kinds = {name: datasets.Value(kind) for name, kind in _COLUMNS.items()}
        datasets.disable_progress_bars()
        lines = self.folder / self.file_name
        with tempfile.TemporaryDirectory(dir=self.folder) as cache:
            dataset = datasets.Dataset.from_json(
                str(lines), features=datasets.Features(kinds), cache_dir=cache
            )
            dataset.save_to_disk(self.folder / "dataset")
        lines.unlink()


_WRITERS: dict[TextFormat, type[_Writer]] = {
    "jsonl": _JsonLinesWriter,
    "tokens": _TokensWriter,
    "megatron": _MegatronWriter,
    "datasets": _DatasetsWriter,
}

_COLUMNS = {"text": "string", "person": "int64", "exposure": "int64"}
"""Columns of a dataset and their types."""


def _write_people(texts: CorpusTexts, path: Path) -> None:
    """Write the facts as CSV: a line per person, a column per attribute."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["person", *_fact_columns(texts)], lineterminator="\n")
        writer.writeheader()
        for person, facts in enumerate(texts.facts()):
            writer.writerow({"person": person, **facts})


def _fact_columns(texts: CorpusTexts) -> list[str]:
    """Names of the facts of a person."""
    return list(next(texts.facts()))
