"""Corpus records in a file of their own."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from knowcap.config.knowledge import Corpus
from knowcap.config.yaml_file import YamlFile
from knowcap.errors import distinct_errors, error_location, error_message, field_path


def read_corpus_file(path: Path) -> Corpus:
    """Read a corpus record from a YAML or JSON file.

    Raises
    ------
    UserError
        If the file is missing, not YAML, or not a corpus record.
    """
    file = YamlFile(path)
    if not isinstance(file.values, dict):
        raise file.error(1, "a corpus record is expected, with the keys knowledge and tokenizer")
    try:
        return Corpus.model_validate(file.values)
    except ValidationError as error:
        raise file.all_errors(
            (
                file.line(error_location(problem)),
                f"{field_path(error_location(problem))}: {error_message(problem)}",
            )
            for problem in distinct_errors(error)
        ) from None
