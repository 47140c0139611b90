"""YAML files: values of the core schema, and files that are refused in one line."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from knowcap.config.yaml_file import YamlFile
from knowcap.errors import UserError


def load(tmp_path: Path, text: str | bytes) -> YamlFile:
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return YamlFile(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30", 30),
        ("030", 30),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e-06", 1e-6),
        ("1E5", 1e5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("2001-01-01", "2001-01-01"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'30'", "30"),
        ("=", "="),
        ("1" * 18, int("1" * 18)),
        ("1" * 19, "1" * 19),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_plain_scalars_follow_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    read = load(tmp_path, f"value: {text}\n").values["value"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("key", ["yes", "on", "1:30", "030", "true", "null", "1.0", "~"])
def test_keys_are_the_text_of_the_file(tmp_path: Path, key: str) -> None:
    assert load(tmp_path, f"{key}: 1\n").values == {key: 1}


def test_json_is_yaml(tmp_path: Path) -> None:
    text = '{"a": [1, 1e-06, null, true, "x\\n"], "b": {"c": -1.5E+3}}'
    assert load(tmp_path, text).values == {"a": [1, 1e-6, None, True, "x\n"], "b": {"c": -1500.0}}


def test_own_values_replace_merged_ones_and_the_first_merge_wins(tmp_path: Path) -> None:
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {c: 3, <<: [*x, *y], d: 4}\n"
    merged = load(tmp_path, text).values["z"]
    assert merged == {"a": 1, "b": 1, "c": 3, "d": 4}
    assert list(merged) == ["b", "c", "a", "d"]  # as PyYAML: the order of a grid's fields


def test_a_key_has_its_line_also_in_merged_mappings(tmp_path: Path) -> None:
    file = load(tmp_path, "x: &x\n  a: 1\n  b:\n  - 5\n  - 6\ny:\n  <<: *x\n  a: 2\n")
    assert file.line(("y", "a")) == 8
    assert file.line(("y", "b", 1)) == 5
    assert file.line(("y", "b", 7)) == 3
    assert file.line(("y", "absent")) == 6


def errors_of(tmp_path: Path, text: str | bytes) -> str:
    """The errors of a file, whether they leave its other values readable or not."""
    try:
        file = load(tmp_path, text)
    except UserError as error:
        return str(error)
    return str(file.all_errors(file.errors))


BOMB = "\n".join(
    [
        "a0: &a0 {x: 1, y: 2}",
        *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 25)),
    ]
)
MERGE_BOMB = BOMB.replace("[", "{<<: [").replace("]", "]}")
CHAIN = "\n".join(["a0: &a0 []", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 500))])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", ":3: a: duplicate key"),
        ("a: {b: 1, b: 2}", ":1: b: duplicate key"),
        ('a: 1\n"a": 2', ":2: a: duplicate key"),
        ("a: !!int x", ":1: tag 'tag:yaml.org,2002:int' is not allowed"),
        ("a: !!binary aGk=", ":1: tag 'tag:yaml.org,2002:binary' is not allowed"),
        ("a: !!python/object/apply:os.system [true]", "is not allowed"),
        ("a: !own {b: 1}", ":1: tag '!own' is not allowed"),
        ("a:\n  ? [b]\n  : 1", ":2: a key must be text"),
        ("a: 1\nb: \x07", ":2: character '\\x07' is not allowed"),
        ('a: "\\u0007"', ":1: '\\x07' has a control character, which is not allowed"),
        ('a: "\\ud800"', ":1: "),
        ("a: \x00", ":1: character '\\x00' is not allowed"),
        (b"a: 1\nb: \xff", ":2: not UTF-8 text"),
        ("a: 1\n---\nb: 2", ":2: but found another document"),
        ("a: [", "did not find expected node content"),
        ("a: *b", ":1: found undefined alias"),
        ("a: &a [*a]", ":1: an anchor is used inside its own value"),
        ("a: &a {<<: *a}", ":1: an anchor is used inside its own value"),
        ("a: {<<: 5}", ":1: <<: a mapping or a list of mappings is required"),
        ("a: " + "[" * 900 + "]" * 900, ":1: nested more than 32 levels deep"),
        ("a: " + "[" * 100_000, "nest"),  # from PyYAML 6.0.4 on refused by libyaml
        ("a: " + "{x: " * 100_000, ":1: nested more than 32 levels deep"),
        (CHAIN, "nested more than 32 levels deep"),
        (BOMB, "more than 1000000 values, with all anchors expanded"),
        (MERGE_BOMB, "more than 1000000 values, with all anchors expanded"),
        ("a" * (2**20 + 1), ": more than 1048576 bytes"),
    ],
    ids=lambda text: repr(text)[:30],
)
def test_a_file_is_refused_in_one_line_and_at_once(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    started = time.process_time()
    message = errors_of(tmp_path, text)
    assert time.process_time() - started < 2
    assert message.startswith(f"{tmp_path}/file.yaml:")
    assert expected in message
    assert "\n" not in message
    assert len(message) < 300


def test_all_errors_of_one_kind_are_reported(tmp_path: Path) -> None:
    file = load(tmp_path, "a: 1\na: 2\nb: {c: 1, c: 2}\n? [d]\n: 1\n")
    assert sorted(file.errors) == [
        (2, "a: duplicate key"),
        (3, "c: duplicate key"),
        (4, "a key must be text"),
    ]


def test_a_folder_a_missing_file_and_a_link_to_itself_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder, a file is required"):
        YamlFile(tmp_path)
    with pytest.raises(UserError, match=r"absent\.yaml: file not found"):
        YamlFile(tmp_path / "absent.yaml")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="cannot be read: Too many levels of symbolic links"):
        YamlFile(tmp_path / "loop")
    with pytest.raises(UserError, match="more than 1048576 bytes"):
        YamlFile(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="a pipe, a file is required"):
        YamlFile(tmp_path / "pipe")
