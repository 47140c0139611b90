import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowcap.config import BioD, BioS
from knowcap.data import people
from tests.data.conftest import biod, bios
from tests.data.test_rng import is_uniform


def bios_knowledge(num_people: int = 20_000, seed: int = 1) -> BioS:
    knowledge = bios("bioS", "word", num_people, seed).knowledge
    assert isinstance(knowledge, BioS)
    return knowledge


def biod_knowledge(**changes: int) -> BioD:
    knowledge = biod("compact", **changes).knowledge
    assert isinstance(knowledge, BioD)
    return knowledge


@given(seed=st.integers(0, 2**63 - 1), num_people=st.integers(1, 3000))
def test_all_people_have_distinct_names(seed: int, num_people: int) -> None:
    names = people.name_ids(bios_knowledge(num_people, seed), np.arange(num_people))
    assert np.unique(names).size == num_people
    assert names.min() >= 0
    assert names.max() < 160_000_000


def test_a_population_can_use_every_name() -> None:
    knowledge = biod_knowledge(num_people=125, alphabet_size=5, diversity=2)
    names = people.name_ids(knowledge, np.arange(125))
    assert np.array_equal(np.sort(names), np.arange(125))


@given(person=st.integers(0, 10**12), num_people=st.integers(1, 10**8))
def test_a_person_does_not_depend_on_the_size_of_the_population(
    person: int, num_people: int
) -> None:
    small, large = bios_knowledge(1, seed=9), bios_knowledge(num_people, seed=9)
    several = np.array([0, person, 3])
    single = people.attribute_ids(small, np.array([person]))
    assert {name: value[1] for name, value in people.attribute_ids(large, several).items()} == {
        name: value[0] for name, value in single.items()
    }


def test_different_seeds_give_different_populations() -> None:
    first, second = (people.attribute_ids(bios_knowledge(seed=s), np.arange(100)) for s in (1, 2))
    assert (first["birth_date"] != second["birth_date"]).any()


@pytest.mark.parametrize("name", people.CARDINALITIES)
def test_attributes_are_uniform(name: str) -> None:
    values = people.attribute_ids(bios_knowledge(), np.arange(200_000))[name]
    size = people.CARDINALITIES[name]
    assert is_uniform(np.bincount(values * 28 // size if size > 1000 else values))


def test_attributes_are_independent_of_each_other() -> None:
    values = people.attribute_ids(bios_knowledge(), np.arange(100_000))
    pairs = values["gender"] * 100 + values["major"]
    assert is_uniform(np.bincount(pairs, minlength=200))


def test_the_working_city_is_that_of_the_employer() -> None:
    values = people.attribute_ids(bios_knowledge(), np.arange(5000))
    _, cities, _ = people.read_employers()
    lines = people.read_lines("pools", "employers")
    expected = [cities[city] for city in values["work_city"]]
    assert expected == [lines[employer].split("; ")[1] for employer in values["employer"]]


def test_bios_has_the_number_of_values_of_the_paper() -> None:
    size = np.prod([float(size) for size in people.CARDINALITIES.values()])
    # PAPER 4.3: S0 = 2 x (12 x 28 x 200) x 200 x 300 x 100 x 263
    assert size == 2 * (12 * 28 * 200) * 200 * 300 * 100 * 263


@pytest.mark.parametrize(
    ("diversity", "length", "alphabet"),
    [(8, 3, 2), (1, 1, 2), (100, 1, 100), (10_000, 2, 200), (500, 50, 40_000), (1000, 64, 2)],
)
def test_chunks_of_an_attribute_are_distinct_strings(
    diversity: int, length: int, alphabet: int
) -> None:
    knowledge = biod_knowledge(
        num_people=1, diversity=diversity, chunk_length=length, alphabet_size=alphabet
    )
    strings = people.chunk_strings(knowledge)
    assert strings.shape == (4, diversity, length)
    assert strings.min() >= 0
    assert strings.max() < alphabet
    for attribute in strings:
        assert len(np.unique(attribute, axis=0)) == diversity


def test_attributes_have_different_chunks() -> None:
    strings = people.chunk_strings(biod_knowledge(diversity=20, chunk_length=2))
    assert not np.array_equal(np.sort(strings[0], axis=0), np.sort(strings[1], axis=0))


def test_letters_of_chunks_are_uniform() -> None:
    strings = people.chunk_strings(
        biod_knowledge(diversity=10_000, chunk_length=5, alphabet_size=16)
    )
    for place in range(5):
        assert is_uniform(np.bincount(strings[0, :, place], minlength=16))


def test_chunk_ids_accept_attributes_per_person() -> None:
    knowledge, person_ids = biod_knowledge(num_people=8000), np.array([5, 7000])
    for_all = people.chunk_ids(knowledge, person_ids, np.arange(4))
    per_person = people.chunk_ids(knowledge, person_ids, np.array([[3, 1], [0, 3]]))
    assert np.array_equal(per_person, [for_all[0, [3, 1]], for_all[1, [0, 3]]])


def test_chunks_of_values_are_drawn_uniformly_with_replacement() -> None:
    knowledge = biod_knowledge(num_people=8000)
    chunk_ids = people.chunk_ids(knowledge, np.arange(8000), np.arange(4))
    assert chunk_ids.shape == (8000, 4, 2)
    assert is_uniform(np.bincount(chunk_ids.ravel(), minlength=7))
    first, second = chunk_ids[:, 1, 0], chunk_ids[:, 1, 1]
    assert is_uniform(np.bincount(first * 7 + second, minlength=49))
