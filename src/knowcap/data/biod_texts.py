"""Texts of bioD: words of its alphabet, and the templates of both layouts."""

from __future__ import annotations

import string

from knowcap.config import BioD
from knowcap.data import people
from knowcap.data.tokenizer import END_OF_TEXT

SYLLABLES = [c + v for c in string.ascii_lowercase if c not in "aeiouy" for v in "aeiou"]


def syllabic_words(num_words: int) -> list[str]:
    """Distinct words of equal length and at least two syllables: baba, babe."""
    words = [""]
    while len(words) < num_words or len(words[0]) < 4:
        words = [word + syllable for word in words[:num_words] for syllable in SYLLABLES]
    return words[:num_words]


def template_texts(knowledge: BioD) -> dict[str, list[str]]:
    """Texts of all token templates by kind, except chunks, which consist of the alphabet."""
    numbers = range(1, knowledge.num_attributes + 1)
    # ASSUME: the paper does not state how its T tokens are written; here each is a word.
    alphabet = [f" {word}" for word in syllabic_words(knowledge.alphabet_size)]
    if knowledge.layout == "compact":
        markers = [f" {word.upper()}" for word in syllabic_words(knowledge.num_attributes)]
        return {"end": [END_OF_TEXT], "marker": markers, "alphabet": alphabet}
    return {
        "end": [END_OF_TEXT],
        "possessive": [f"'s ID {number} is" for number in numbers],
        # ASSUME: all people have the same pronoun, so that it carries no knowledge.
        "pronoun": [f" Her ID {number} is" for number in numbers],
        # ASSUME: commas separate chunks, as in the paper's example; their loss is not counted.
        "comma": [","],
        "stop": ["."],
        **people.name_texts(),
        "alphabet": alphabet,
    }
