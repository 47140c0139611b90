"""Where a free text about a person tells what.

A rewritten biography is any text that begins with the full name, has it once, and tells every
value word for word. Only then is it known which of its tokens are knowledge.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from knowcap.data.people import Profile
from knowcap.data.tokenizer import END_OF_TEXT

PRONOUNS = (("he", "his", "him", "himself"), ("she", "her", "hers", "herself"))
"""By gender."""

_ANY_PRONOUN = re.compile(rf"\b({'|'.join(sum(PRONOUNS, ()))})\b", re.IGNORECASE)

Span = tuple[int, int]
"""First character or token, and the one behind the last."""


class Spans(NamedTuple):
    """Where a text tells who it is about and what is true of that person."""

    name: Span
    values: dict[str, Span]
    """Of the six values, where each is told first."""
    pronoun: Span
    """The first one."""


def find(text: str, profile: Profile) -> Spans | None:
    """Characters that tell a person's name, values and gender.

    Parameters
    ----------
    text
        A biography, with a space in front.
    profile
        Who it is to be about.

    Returns
    -------
    Spans | None
        None if the text does not begin with the name, has it again, lacks a value, or has no
        pronoun or one of the other gender.
    """
    if not text.startswith(profile.name) or END_OF_TEXT in text or not text.isprintable():
        return None
    name = (0, len(profile.name))
    if text.count(profile.name.strip()) > 1 or not _is_word(text, name):
        return None
    values: dict[str, Span] = {}
    # A long value goes first, since a shorter one can be a part of it. Where a person works in the
    # city of birth, the first place it is told at counts as that of the birth.
    for attribute, value in sorted(profile.values.items(), key=lambda item: -len(item[1])):
        span = _first(text, value, (name, *values.values()))
        if span is None:
            return None
        values[attribute] = span
    pronouns = list(_ANY_PRONOUN.finditer(text, name[1]))
    forms = PRONOUNS[profile.gender]
    if not pronouns or any(match[0].lower() not in forms for match in pronouns):
        return None
    return Spans(name, values, pronouns[0].span())


def _first(text: str, value: str, taken: tuple[Span, ...]) -> Span | None:
    """Where a value is told for the first time, in whole words that tell nothing else."""
    start = text.find(value)
    while start >= 0:
        span = start, start + len(value)
        is_free = all(span[1] <= first or behind <= start for first, behind in taken)
        if is_free and _is_word(text, span):
            return span
        start = text.find(value, start + 1)
    return None


def _is_word(text: str, span: Span) -> bool:
    """Whether no letter or digit touches a span."""
    start, stop = span
    return not (text[max(start - 1, 0) : start].isalnum() or text[stop : stop + 1].isalnum())
