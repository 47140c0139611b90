"""Tables: all mistakes of a CSV file at once, identity by content, and records without a path."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from knowcap.artifacts import identity
from knowcap.config import Corpus, Table
from knowcap.config.study import load_study
from knowcap.errors import UserError, distinct_errors

ROWS = """\
inventor,city,year
Rare Repalu,Orvale,1803
Mazu Bozufi,Tessen,1803
Liro Napage,Orvale,1811
"""
SENTENCES = ("{name} lived in {value}.",)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "facts.csv"
    path.write_text(ROWS)
    return path


def values(file: Path, **changes: Any) -> dict[str, Any]:
    attributes = [{"column": name, "sentences": SENTENCES} for name in ("city", "year")]
    own = {"kind": "table", "file": str(file), "name_column": "inventor", "attributes": attributes}
    return own | changes


def corpus(file: Path, **changes: Any) -> Corpus:
    return Corpus.model_validate({"knowledge": values(file, **changes), "tokenizer": "word"})


def mistakes(file: Path, **changes: Any) -> list[str]:
    with pytest.raises(ValidationError) as error:
        Table.model_validate(values(file, **changes))
    return [each["msg"] for each in distinct_errors(error.value)]


def test_rows_and_distinct_values_are_counted(file: Path) -> None:
    table = Table.model_validate(values(file))
    assert table.num_people == 3
    assert [(a.column, a.num_values) for a in table.attributes] == [("city", 2), ("year", 2)]


def test_all_mistakes_of_a_file_are_named_with_their_lines(file: Path) -> None:
    file.write_text(
        "inventor,city,city\n"
        "Rare Repalu,Orvale,x\n"
        "Rare Repalu,,x\n"
        "Mazu,Tessen\n"
        "Liro ,Bay (NB),x\n"
        "Bisu,a\x07b,x\n"
        "Fese,<|endoftext|>,x\n"
    )
    found = [each.removeprefix(str(file)) for each in mistakes(file)]
    assert found == [
        ", line 1: no column 'year', only 'inventor', 'city', 'city'",
        ", line 1: several columns 'city'",
        ", line 3: city: empty",
        ", line 3: inventor: 'Rare Repalu' is in line 2 too",
        ", line 4: 2 cells instead of 3",
        ", line 5: inventor: 'Liro ' begins or ends with a space",
        ", line 5: city: 'Bay (NB)' does not end with a letter or a digit",
        ", line 6: city: 'a\\x07b' has a character that cannot be printed",
        ", line 7: city: '<|endoftext|>' contains '<|endoftext|>', which tokenizers use themselves",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": empty; a header and one row for each name are required"),
        (b"inventor,city,year\n", ": no rows; one row for each name is required"),
        (b"inventor,city,year\nA,B,1\nC,\xff,2\n", ", line 3: not UTF-8"),
        (b'inventor,city,year\nA,"B,1\n', ": not comma-separated values: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_table_is_refused(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    assert mistakes(file) == [f"{file}{message}"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    assert mistakes(path) == [f"{path}: cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    ("sentence", "problem"),
    [
        ("lived in {value}.", "required is"),
        ("{name} lived here.", "required is"),
        ("In {value} lived {name}.", "required is"),
        ("{name} lived in {value} and {value}.", "required is"),
        ("{name} {value}.", "words are required"),
        ("{name}s city is {value}.", "words are required"),
        ("{name} lived in {value}", "an end is required"),
        ("{name} lived in {value}s.", "an end is required"),
        ("{name} lived\tin {value}.", "it has a character"),
    ],
)
def test_a_sentence_without_its_placeholders_is_refused(
    file: Path, sentence: str, problem: str
) -> None:
    attributes = [{"column": "city", "sentences": [sentence]}]
    (message,) = mistakes(file, attributes=attributes)
    assert f"is not allowed: {problem}" in message


def test_fields_that_do_not_fit_the_file_are_refused(file: Path) -> None:
    city = {"column": "city", "sentences": SENTENCES}
    assert mistakes(file, num_names=2) == ["2 is less than the 3 names of the file"]
    assert mistakes(file, num_people=9) == [f"9, but {file} has 3"]
    (message,) = mistakes(file, attributes=[{**city, "num_values": 1}])
    assert message == f"city: num_values: 1 is less than the 2 values in {file}"
    assert mistakes(file, attributes=[city, city]) == ["'city' is given twice"]
    (message,) = mistakes(file, attributes=[{"column": "inventor", "sentences": SENTENCES}])
    assert message == "'inventor' is the name, and not an attribute"


def test_the_name_of_results_depends_on_the_content_and_not_on_the_path(
    file: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copy(file, tmp_path / "moved.csv"))
    assert identity.corpus_name(corpus(moved)) == identity.corpus_name(corpus(file))
    assert corpus(moved) == corpus(file)
    assert hash(corpus(moved)) == hash(corpus(file))
    moved.write_text(ROWS.replace("1811", "1812"))
    name = identity.corpus_name(corpus(file))
    assert identity.corpus_name(corpus(moved)) != name
    other = [{"column": "city", "sentences": ["{name} is from {value}."]}]
    assert identity.corpus_name(corpus(file, attributes=other)) != identity.corpus_name(
        corpus(file)
    )


def test_a_record_has_no_path_and_is_read_without_the_file(file: Path) -> None:
    record = corpus(file)
    text = identity.record_json(record)
    assert str(file) not in text
    file.unlink()
    assert Corpus.model_validate(json.loads(text)) == record


def test_mistakes_of_a_study_have_the_line_of_the_file_key(
    study_text: str, file: Path, tmp_path: Path
) -> None:
    file.write_text(ROWS + "Rare Repalu,Orvale,\n")
    start, end = study_text.index("    knowledge:"), study_text.index("    tokenizer: word")
    knowledge = json.dumps(values(file))
    study = tmp_path / "study.yaml"
    study.write_text(f"{study_text[:start]}    knowledge: {knowledge}\n{study_text[end:]}")
    with pytest.raises(UserError) as error:
        load_study(study)
    message = str(error.value)
    assert f"{file}, line 5: year: empty" in message
    assert f"{file}, line 5: inventor: 'Rare Repalu' is in line 2 too" in message
    assert f"{study}:7: " in message


PAGE = (Path(__file__).parents[2] / "docs" / "own-facts.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_are_valid(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    record = Corpus.model_validate({**yaml.safe_load(block), "tokenizer": "GPT2"})
    assert record.knowledge.kind in ("table", "bioS")
