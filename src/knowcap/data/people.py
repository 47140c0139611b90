"""Who there is: person i of a population, and what is true of them.

Person i is a pure function of the population's seed and i. Names are drawn without replacement,
everything else uniformly and independently (paper 2.2); the working city alone follows from
another attribute, the employer.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from knowcap.config import BioD, Population
from knowcap.data.rng import MAX_SIZE, Int64, bits, key, permute, uniform

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS = range(1, 29)  # PAPER 2.2: 28 days in every month
YEARS = range(1900, 2100)  # PAPER 2.2: 200 years; Part 3.1, A.1 says which

CARDINALITIES = {
    "birth_date": len(MONTHS) * len(DAYS) * len(YEARS),
    "birth_city": 200,
    "university": 300,
    "major": 100,
    "employer": 263,
    "gender": 2,
}
"""How many values each independent attribute of a bioS person has."""  # PAPER 4.3: S0, product

POOLS = {
    "birth_city": "cities",
    "university": "universities",
    "major": "majors",
    "employer": "employers",
}
"""The file in pools/ that an attribute's values are listed in."""


@cache
def read_lines(folder: str, name: str) -> tuple[str, ...]:
    """Lines of ``folder/name.txt`` of this package, such as pools/cities.txt."""
    text = files(__package__).joinpath(folder, f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


@cache
def employers() -> tuple[tuple[str, ...], tuple[str, ...], Int64]:
    """Employers, the distinct cities they are in, and the index of each one's city."""
    names, cities = zip(
        *(line.split("; ") for line in read_lines("pools", POOLS["employer"])), strict=True
    )
    distinct, index = np.unique(cities, return_inverse=True)
    return tuple(names), tuple(distinct.tolist()), index.astype(np.int64)


def name_numbers(population: Population, person: ArrayLike) -> Int64:
    """Which of the N0 names each person has; no two people share one."""
    return permute(person, population.num_names, key(population.seed, "name"))


def name_texts() -> dict[str, list[str]]:
    """First, middle and last names as they stand in a text."""
    pools = ("first_names", "middle_names", "last_names")
    return {pool: [f" {name}" for name in read_lines("pools", pool)] for pool in pools}


def attributes(knowledge: Population, person: ArrayLike) -> dict[str, Int64]:
    """What is true of each person: an index of every attribute's values.

    Returns
    -------
    dict[str, Int64]
        The attributes of :data:`CARDINALITIES`, each of `person`'s shape, and ``work_city``. A
        birth date counts years fastest, then days, then months; gender 0 is "he", 1 "she".
    """
    values = {
        name: uniform(size, key(knowledge.seed, name), person)
        for name, size in CARDINALITIES.items()
    }
    _, _, city = employers()
    return values | {"work_city": city[values["employer"]]}


class Profile(NamedTuple):
    """A person in words."""

    name: str
    """The full name, with a space in front as in a text."""
    values: dict[str, str]
    """Birth date, birth city, university, major, employer and working city."""
    gender: int
    """0 is "he", 1 "she"."""


def profiles(population: Population, person: Int64) -> list[Profile]:
    """Name and attributes of some people, spelled out."""
    pools = [np.array(texts) for texts in name_texts().values()]
    parts = np.unravel_index(name_numbers(population, person), [pool.size for pool in pools])
    names = [pool[part] for pool, part in zip(pools, parts, strict=True)]
    known = attributes(population, person)
    month, day, year = np.unravel_index(known["birth_date"], [len(MONTHS), len(DAYS), len(YEARS)])
    dates = zip(month, day, year, strict=True)
    companies, cities, _ = employers()
    texts = {name: read_lines("pools", pool) for name, pool in POOLS.items()}
    texts |= {"employer": companies, "work_city": cities}
    spelled = {"birth_date": [f"{MONTHS[m]} {DAYS[d]}, {YEARS[y]}" for m, d, y in dates]}
    spelled |= {name: [texts[name][index] for index in known[name]] for name in texts}
    return [
        Profile("".join(name), dict(zip(spelled, values, strict=True)), gender)
        for name, values, gender in zip(
            zip(*names, strict=True),
            zip(*spelled.values(), strict=True),
            known["gender"].tolist(),
            strict=True,
        )
    ]


def gender(knowledge: Population, person: ArrayLike) -> Int64:
    """The gender among :func:`attributes`."""
    return uniform(CARDINALITIES["gender"], key(knowledge.seed, "gender"), person)


def chunk_alphabet(knowledge: BioD) -> NDArray[np.int32]:
    """The D distinct strings that chunks of each attribute are, in alphabet indices [K, D, L].

    Drawn uniformly without replacement from the T^L there are (paper, Definition 2.2).
    """
    size = (knowledge.diversity, knowledge.chunk_length)
    strings = [
        _distinct_strings(*size, knowledge.alphabet_size, key(knowledge.seed, "diversity", number))
        for number in range(knowledge.num_attributes)
    ]
    return np.stack(strings)


def chunks(knowledge: BioD, person: Int64, attribute: Int64) -> Int64:
    """Which strings some attributes of each person are made of, in ``range(D)``, [people, told, C].

    The attributes are the same for all, [told], or each person's own, [people, told].
    """
    own = bits(key(knowledge.seed, "value"), person)
    return uniform(knowledge.diversity, own[:, None], attribute, knowledge.num_chunks)


def _distinct_strings(
    number: int, length: int, alphabet_size: int, key: np.uint64
) -> NDArray[np.int32]:
    """Distinct random strings [number, length] over an alphabet."""
    if (num_strings := alphabet_size**length) <= MAX_SIZE:
        image = permute(np.arange(number), num_strings, key)
        places = [alphabet_size**place for place in reversed(range(length))]
        digits: NDArray[np.int32] = image[:, None] // np.array(places) % alphabet_size
        return digits.astype(np.int32)
    strings = uniform(alphabet_size, bits(key, np.arange(number))[:, None], np.arange(length))
    # More than 2^63 strings: that two of 10,000 agree has a probability below 1e-11.
    assert len(np.unique(strings, axis=0)) == number
    return strings.astype(np.int32)
