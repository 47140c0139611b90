"""Character spans of name, values and first pronoun in a free-text biography.

A rewritten biography may be any text that begins with the full name, contains it once, and
contains every value verbatim. The spans locate the tokens that carry knowledge.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from knowcap.data.people import Person
from knowcap.data.tokenizer import END_OF_TEXT

PRONOUNS = (("he", "his", "him", "himself"), ("she", "her", "hers", "herself"))
"""Pronouns by gender."""

_ANY_PRONOUN = re.compile(rf"\b({'|'.join(sum(PRONOUNS, ()))})\b", re.IGNORECASE)

Span = tuple[int, int]
"""Start and stop (exclusive), in characters or tokens."""


class ValueSpans(NamedTuple):
    """Spans of the facts that a biography states."""

    name: Span
    values: dict[str, Span]
    """First mention of each of the six values."""
    pronoun: Span
    """First pronoun."""


def find_value_spans(text: str, person: Person) -> ValueSpans | None:
    """Character spans of a person's name, values and gender.

    Parameters
    ----------
    text
        A biography with a leading space.
    person
        The subject of the biography.

    Returns
    -------
    ValueSpans | None
        None if the text does not begin with the name, repeats it, lacks a value, has no pronoun,
        or has one of the other gender.
    """
    if not text.startswith(person.name) or END_OF_TEXT in text or not text.isprintable():
        return None
    name = (0, len(person.name))
    if text.count(person.name.strip()) > 1 or not _is_whole_word(text, name):
        return None
    values: dict[str, Span] = {}
    # Longest value first, since a shorter one can be part of it. Birth city precedes working city
    # in the dictionary, so if they are equal the first mention counts as the birth city.
    for attribute, value in sorted(person.values.items(), key=lambda item: -len(item[1])):
        span = _find_first_mention(text, value, (name, *values.values()))
        if span is None:
            return None
        values[attribute] = span
    pronouns = list(_ANY_PRONOUN.finditer(text, name[1]))
    allowed = PRONOUNS[person.gender]
    if not pronouns or any(match[0].lower() not in allowed for match in pronouns):
        return None
    return ValueSpans(name, values, pronouns[0].span())


def _find_first_mention(text: str, value: str, taken: tuple[Span, ...]) -> Span | None:
    """First whole-word span of a value outside the taken spans."""
    start = text.find(value)
    while start >= 0:
        span = start, start + len(value)
        is_free = all(
            span[1] <= taken_start or taken_stop <= start for taken_start, taken_stop in taken
        )
        if is_free and _is_whole_word(text, span):
            return span
        start = text.find(value, start + 1)
    return None


def _is_whole_word(text: str, span: Span) -> bool:
    """Whether no letter or digit is adjacent to a span."""
    start, stop = span
    return not (text[max(start - 1, 0) : start].isalnum() or text[stop : stop + 1].isalnum())
