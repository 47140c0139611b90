"""Bits of people by the paper's formula, and of texts as an upper bound."""

from __future__ import annotations

import lzma
import math
import random
from pathlib import Path

import pytest

from knowcap.capacity.forecast.knowledge_size import bits_of_people, size_of_text
from knowcap.errors import UserError


@pytest.mark.parametrize("num_people", [10_000, 50_000, 1_000_000])
def test_bits_of_people_are_those_of_definition_4_3(num_people: int) -> None:
    combinations = 2 * (12 * 28 * 200) * 200 * 300 * 100 * 263
    expected = num_people * (math.log2(160_000_000 / num_people) + math.log2(combinations))
    assert bits_of_people(num_people) == pytest.approx(expected, rel=1e-12)


def test_a_text_has_at_most_the_bits_of_its_smallest_compression(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("Anya was born in Princeton, NJ.\n" * 2000)
    size = size_of_text(path)
    assert size.num_bits <= 8 * len(lzma.compress(path.read_bytes(), preset=9))
    assert size.num_tokens == 2000 * 10
    assert size.num_distinct == 10
    noise = tmp_path / "noise"
    noise.write_text("".join(random.Random(0).choices("0123456789abcdef", k=20_000)))
    assert size_of_text(noise).num_bits >= 4 * 20_000


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    binary, empty = tmp_path / "binary", tmp_path / "empty"
    binary.write_bytes(b"\xff\xfe\x00\x9f")
    empty.touch()
    for path, message in (
        (binary, "not a UTF-8 text"),
        (empty, "empty"),
        (tmp_path / "absent", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        with pytest.raises(UserError, match=f"--text: {path}: {message}"):
            size_of_text(path)
