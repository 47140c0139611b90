"""Names, attributes and chunk values of the people in a population.

Person i is a pure function of the population's seed and i. Names are drawn without replacement,
all other attributes uniformly and independently (paper 2.2), except the working city, which
follows from the employer.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from knowcap.config import BioD, BioS, Population
from knowcap.data.rng import (
    MAX_PERMUTED_SIZE,
    Int64,
    derive_key,
    permute_indices,
    random_bits,
    random_integers,
)

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS = range(1, 29)  # PAPER 2.2: 28 days in every month
YEARS = range(1900, 2100)  # PAPER 2.2: 200 years; Part 3.1, A.1 gives the range

CARDINALITIES = {
    "birth_date": len(MONTHS) * len(DAYS) * len(YEARS),
    "birth_city": 200,
    "university": 300,
    "major": 100,
    "employer": 263,
    "gender": 2,
}
"""Number of values of each independent attribute of bioS."""  # PAPER 4.3: S0, product

POOL_FILES = {
    "birth_city": "cities",
    "university": "universities",
    "major": "majors",
    "employer": "employers",
}
"""File in pools/ that lists an attribute's values."""


@cache
def read_lines(folder: str, name: str) -> tuple[str, ...]:
    """Lines of ``folder/name.txt`` of this package, such as pools/cities.txt."""
    text = files(__package__).joinpath(folder, f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


@cache
def read_employers() -> tuple[tuple[str, ...], tuple[str, ...], Int64]:
    """Employers, the distinct cities of employers, and each employer's city index."""
    employers, cities = zip(
        *(line.split("; ") for line in read_lines("pools", POOL_FILES["employer"])), strict=True
    )
    distinct_cities, city_ids = np.unique(cities, return_inverse=True)
    return tuple(employers), tuple(distinct_cities.tolist()), city_ids.astype(np.int64)


def name_ids(population: Population, person_ids: ArrayLike) -> Int64:
    """Index of each person's name among the N0 names, without repeats."""
    return permute_indices(person_ids, population.num_names, derive_key(population.seed, "name"))


def name_texts() -> dict[str, list[str]]:
    """First, middle and last names by pool, each with a leading space."""
    pools = ("first_names", "middle_names", "last_names")
    return {pool: [f" {name}" for name in read_lines("pools", pool)] for pool in pools}


def attribute_ids(population: Population, person_ids: ArrayLike) -> dict[str, Int64]:
    """Index of each person's value of every attribute.

    Returns
    -------
    dict[str, Int64]
        The attributes of :data:`CARDINALITIES` and ``work_city``, each of `person_ids`' shape. A
        birth date's index counts years fastest, then days, then months; gender 0 is "he", 1 "she".
    """
    value_ids = {
        name: random_integers(size, derive_key(population.seed, name), person_ids)
        for name, size in CARDINALITIES.items()
    }
    _, _, city_ids = read_employers()
    return value_ids | {"work_city": city_ids[value_ids["employer"]]}


def extra_attribute_ids(population: Population, person_ids: ArrayLike) -> dict[str, Int64]:
    """Index of each person's value of every attribute that a study adds."""
    extra = population.extra_attributes if isinstance(population, BioS) else ()
    return {
        attribute.name: random_integers(
            len(attribute.values), derive_key(population.seed, "extra", attribute.name), person_ids
        )
        for attribute in extra
    }


class Person(NamedTuple):
    """A person's name and attributes as text."""

    name: str
    """Full name with a leading space."""
    values: dict[str, str]
    """Birth date, birth city, university, major, employer, working city, and added attributes."""
    gender: int
    """0 is "he", 1 "she"."""


def describe_people(population: Population, person_ids: Int64) -> list[Person]:
    """Names and attributes of people as text."""
    pools = [np.array(texts) for texts in name_texts().values()]
    parts = np.unravel_index(name_ids(population, person_ids), [pool.size for pool in pools])
    names = [pool[part] for pool, part in zip(pools, parts, strict=True)]
    ids = attribute_ids(population, person_ids)
    month, day, year = np.unravel_index(ids["birth_date"], [len(MONTHS), len(DAYS), len(YEARS)])
    dates = zip(month, day, year, strict=True)
    employers, cities, _ = read_employers()
    pool_texts = {name: read_lines("pools", pool) for name, pool in POOL_FILES.items()}
    pool_texts |= {"employer": employers, "work_city": cities}
    values = {"birth_date": [f"{MONTHS[m]} {DAYS[d]}, {YEARS[y]}" for m, d, y in dates]}
    values |= {name: [pool_texts[name][index] for index in ids[name]] for name in pool_texts}
    extra = population.extra_attributes if isinstance(population, BioS) else ()
    extra_texts = {attribute.name: attribute.values for attribute in extra}
    extra_ids = extra_attribute_ids(population, person_ids)
    values |= {name: [extra_texts[name][i] for i in extra_ids[name]] for name in extra_ids}
    return [
        Person("".join(name), dict(zip(values, person_values, strict=True)), gender)
        for name, person_values, gender in zip(
            zip(*names, strict=True),
            zip(*values.values(), strict=True),
            ids["gender"].tolist(),
            strict=True,
        )
    ]


def gender_ids(population: Population, person_ids: ArrayLike) -> Int64:
    """Gender of each person, equal to that in :func:`attribute_ids`."""
    key = derive_key(population.seed, "gender")
    return random_integers(CARDINALITIES["gender"], key, person_ids)


def chunk_strings(knowledge: BioD) -> NDArray[np.int32]:
    """The D distinct chunks of each attribute, as alphabet indices [K, D, L].

    Drawn uniformly without replacement from all T^L strings (paper, Definition 2.2).
    """
    shape = (knowledge.diversity, knowledge.chunk_length)
    strings = [
        _distinct_strings(
            *shape, knowledge.alphabet_size, derive_key(knowledge.seed, "diversity", attribute_id)
        )
        for attribute_id in range(knowledge.num_attributes)
    ]
    return np.stack(strings)


def chunk_ids(knowledge: BioD, person_ids: Int64, attributes: Int64) -> Int64:
    """Chunks of each person's values, in ``range(D)``, [people, attributes, C].

    Parameters
    ----------
    knowledge
        The bioD population.
    person_ids
        [people].
    attributes
        Attribute indices: [attributes] for all people, or [people, attributes] for each person.
    """
    person_keys = random_bits(derive_key(knowledge.seed, "value"), person_ids)
    return random_integers(
        knowledge.diversity, person_keys[:, None], attributes, knowledge.num_chunks
    )


def _distinct_strings(
    num_strings: int, length: int, alphabet_size: int, key: np.uint64
) -> NDArray[np.int32]:
    """Distinct random strings over an alphabet, [num_strings, length]."""
    if (num_possible := alphabet_size**length) <= MAX_PERMUTED_SIZE:
        string_ids = permute_indices(np.arange(num_strings), num_possible, key)
        place_values = [alphabet_size**place for place in reversed(range(length))]
        digits: NDArray[np.int32] = string_ids[:, None] // np.array(place_values) % alphabet_size
        return digits.astype(np.int32)
    string_keys = random_bits(key, np.arange(num_strings))[:, None]
    strings = random_integers(alphabet_size, string_keys, np.arange(length))
    # Of more than 2^63 possible strings, two of 10,000 are equal with probability below 1e-11.
    assert len(np.unique(strings, axis=0)) == num_strings
    return strings.astype(np.int32)
