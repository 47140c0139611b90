"""RetokenizedCorpus: prompts of a corpus in the tokens of another tokenizer.

The text of each prompt is split anew, and the marks of its templates are moved to the tokens that
cover the same characters. A tokenizer is refused if a token covers characters inside and outside of
a value, because its loss would belong to both.

Shapes: P prompts, S positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowcap.data.biod import BioDWriter
from knowcap.data.biography_writer import TemplatePrompts, index_blocks
from knowcap.data.bior import ANY_PRONOUN_SET, FIRST_PRONOUN_SET, WORD_END_SET
from knowcap.data.bios import BioSWriter
from knowcap.data.corpus import CorpusReader
from knowcap.data.corpus_texts import CorpusTexts
from knowcap.data.prompts import FILL_VALUES, Prompts
from knowcap.data.table import TableWriter
from knowcap.data.text_tokenizer import TextTokenizer, TextTokens
from knowcap.data.token_templates import Int64
from knowcap.data.value_spans import PRONOUNS
from knowcap.errors import UserError

CHOICES = "give --tokenizer corpus, or a model with another tokenizer"


class RetokenizedCorpus(CorpusReader):
    """A corpus in the tokens of another tokenizer.

    Parameters
    ----------
    corpus_reader
        The corpus.
    tokenizer
        The other tokenizer.
    vocab_size
        Tokens that the model predicts.
    """

    def __init__(
        self, corpus_reader: CorpusReader, tokenizer: TextTokenizer, vocab_size: int
    ) -> None:
        # Accept sets that the corpus has computed are those of its own tokens.
        vars(self).update({n: v for n, v in vars(corpus_reader).items() if n != "_accept_sets"})
        self._texts = CorpusTexts(corpus_reader)
        self._text_tokenizer = tokenizer
        self.vocab_size = vocab_size

    def later_name_prompts(self, person_ids: Int64, seed: int, num_positions: int) -> Prompts:
        """Prompts that score each name after other biographies, in the other tokens."""
        prompts = self._texts.later_name_prompts(person_ids, seed, num_positions)
        num_before = np.argmax(prompts.field >= 0, axis=1) - self._writer.num_opening_tokens
        contexts = [row[:stop] for row, stop in zip(prompts.tokens, num_before, strict=True)]
        # Each biography begins with an end of text; the text of a domain token is empty.
        splits = [np.split(c, np.flatnonzero(c == self.eos)[1:]) for c in contexts]
        texts = self._tokenizer.decode_batch([part.tolist() for split in splits for part in split])
        opening = self._text_tokenizer.opening
        tokens = [
            np.array([*opening, *each.ids], dtype=np.int32)
            for each in self._text_tokenizer.encode(texts)
        ]
        stops = np.cumsum([len(split) for split in splits])
        bounds = itertools.pairwise([0, *stops.tolist()])
        rows = [np.concatenate(tokens[start:stop]) for start, stop in bounds]
        return self.name_prompts(person_ids, seed).after(rows)

    def _build_prompts(self, person_ids: Int64, parts: Iterable[TemplatePrompts]) -> Prompts:
        """Prompts as tokens of the other tokenizer."""
        tables = [table for part in parts for table in self._retokenize(part)]
        width = max(table["tokens"].size for table in tables)
        arrays = {
            name: np.full((len(tables), width), fill, dtype=tables[0][name].dtype)
            for name, fill in FILL_VALUES.items()
        }
        for row, table in enumerate(tables):
            for name, values in table.items():
                arrays[name][row, : values.size] = values
        num_parts = len(tables) // person_ids.size
        return Prompts(
            person=np.tile(person_ids, num_parts), accept_sets=self._accept_sets, **arrays
        )

    def _retokenize(self, prompts: TemplatePrompts) -> list[dict[str, NDArray[Any]]]:
        """Arrays of :class:`Prompts` for each row, cut after the last marked token."""
        texts, stops = self._piece_stops(prompts)
        return [
            self._move_marks(prompts, row, text, row_stops, tokens)
            for row, (text, row_stops, tokens) in enumerate(
                zip(texts, stops, self._text_tokenizer.encode(texts), strict=True)
            )
        ]

    def _piece_stops(self, prompts: TemplatePrompts) -> tuple[list[str], list[Int64]]:
        """Text of each prompt without ends of text, and the last character of each template.

        Column 0, the opening, and ends of text have no characters.
        """
        if self.corpus.knowledge.kind == "bioR":
            return self._token_stops(prompts)
        pieces = self._texts.template_texts(prompts.template_ids)
        pieces[:, 0] = ""
        pieces[prompts.template_ids == 0] = ""
        lengths = np.vectorize(len, otypes=[np.int64])(pieces)
        return ["".join(row) for row in pieces], list(lengths.cumsum(axis=1))

    def _token_stops(self, prompts: TemplatePrompts) -> tuple[list[str], list[Int64]]:
        """The same for bioR, whose templates are single tokens."""
        rows = [prompts.templates.gather_tokens(row[1:]).tolist() for row in prompts.template_ids]
        texts = self._tokenizer.decode_batch([row[:-1] for row in rows])
        stops = []
        for text, encoding in zip(texts, self._tokenizer.encode_batch(texts), strict=True):
            row_stops = np.full(prompts.template_ids.shape[1], len(text))
            row_stops[0] = 0
            row_stops[1 : 1 + len(encoding)] = [stop for _, stop in encoding.offsets]
            stops.append(row_stops)
        return texts, stops

    def _move_marks(
        self, prompts: TemplatePrompts, row: int, text: str, stops: Int64, tokens: TextTokens
    ) -> dict[str, NDArray[Any]]:
        """Arrays of a row: the marks of its templates at the tokens that cover them."""
        starts, ends = np.array(tokens.offsets, dtype=np.int64).reshape(-1, 2).T
        first = np.searchsorted(stops, starts, side="right")
        # The last character of a token; a token without characters is at the next one.
        last = np.searchsorted(stops, np.maximum(ends - 1, starts), side="right")
        last = np.minimum(last, stops.size - 1)
        first = np.minimum(first, last)
        field = prompts.field[row]
        marks_before = np.stack([field, prompts.chain_field[row]])
        num_changes = (np.diff(marks_before, prepend=-1) != 0).any(axis=0).cumsum()
        for token in np.flatnonzero(num_changes[first] != num_changes[last]):
            fields = marks_before[:, first[token] : last[token] + 1]
            self._refuse_straddling(text, tokens.offsets[token], fields)
        ids = np.concatenate([self._text_tokenizer.opening, tokens.ids]).astype(np.int32)
        template = np.concatenate([np.zeros(len(self._text_tokenizer.opening), np.int64), last])
        end_of_text = np.flatnonzero(prompts.template_ids[row] == 0)
        end_of_text = end_of_text[end_of_text > 0]
        ids = np.append(ids, np.full(end_of_text.size, self._text_tokenizer.end, np.int32))
        template = np.append(template, end_of_text)
        is_first = np.diff(template, prepend=-1) > 0
        marks: dict[str, NDArray[Any]] = {
            "tokens": ids,
            "field": field[template],
            "first_chunk": prompts.first_chunk[row][template],
            "strict_field": np.where(is_first, prompts.strict_field[row][template], np.int8(-1)),
            "accept": np.where(is_first, prompts.accept[row][template], -1).astype(np.int16),
            "given": np.where(is_first, prompts.given[row][template], -1).astype(np.int16),
            "chain_field": prompts.chain_field[row][template],
        }
        self._check_accepted(marks, text)
        is_marked = np.any([marks[f"{kind}field"] >= 0 for kind in ("", "strict_", "chain_")], 0)
        stop = int(np.flatnonzero(is_marked)[-1]) + 1
        return {name: values[:stop] for name, values in marks.items()}

    def _refuse_straddling(
        self, text: str, offsets: tuple[int, int], fields: NDArray[np.int8]
    ) -> None:
        """Raise a UserError for a token that covers characters inside and outside of a value."""
        name = self.fields[fields.max()]
        raise UserError(
            f"the tokenizer has a token {text[slice(*offsets)]!r} with characters of a {name} and "
            f"of the text beside it, so that the {name} has no loss of its own; {CHOICES}"
        )

    def _check_accepted(self, marks: dict[str, NDArray[Any]], text: str) -> None:
        """Raise a UserError if a token is not in its set, or a gender has several tokens."""
        accept = marks["accept"]
        for column in np.flatnonzero(accept >= 0):
            token = int(marks["tokens"][column])
            if not self._accept_sets[accept[column], token]:
                raise UserError(
                    f"the tokenizer splits {text!r} differently from its words, at token {token}; "
                    f"{CHOICES}"
                )

    @cached_property
    def _accept_sets(self) -> NDArray[np.bool_]:
        """Masks [sets, vocab_size] of the tokens that begin the accepted templates."""
        if self.corpus.knowledge.kind == "bioR":
            sets = self._bior_accept_sets()
        else:
            sets = [self._first_tokens(ids) for ids in accepted_templates(self._writer)]
            sets = self._with_whole_pronouns(sets)
        masks = np.zeros((len(sets), self.vocab_size), dtype=bool)
        for mask, tokens in zip(masks, sets, strict=True):
            mask[list(tokens)] = True
        return masks

    def _first_tokens(self, template_ids: Int64) -> set[int]:
        """First token of each template; the end of text is a token of its own."""
        ids = template_ids[template_ids > 0]
        texts = self._texts.template_texts(ids).tolist()
        first = {self._text_tokenizer.end} if ids.size < template_ids.size else set()
        for text, tokens in zip(texts, self._tokens_after_name(texts), strict=True):
            start, stop = tokens.offsets[0]
            if text[start:stop].isspace():
                raise UserError(
                    "the tokenizer has a token for a space alone, which does not show where a "
                    f"value ends; {CHOICES}"
                )
            first.add(tokens.ids[0])
        return first

    def _tokens_after_name(self, texts: Sequence[str]) -> list[TextTokens]:
        """Tokens of texts that follow a name."""
        name = self._texts.first_name
        length = len(name)
        found = []
        for tokens in self._text_tokenizer.encode([name + text for text in texts]):
            pairs = zip(tokens.ids, tokens.offsets, strict=True)
            after = [(i, (max(0, a - length), b - length)) for i, (a, b) in pairs if b > length]
            found.append(TextTokens([i for i, _ in after], [offsets for _, offsets in after]))
        return found

    def _with_whole_pronouns(self, sets: list[set[int]]) -> list[set[int]]:
        """The sets, if each pronoun is one token and no token is of both genders.

        Raises
        ------
        UserError
            Otherwise: the gender has no loss, because several texts of several tokens state it.
        """
        if not isinstance(self._writer, BioSWriter):
            return sets
        pronouns = np.unique(self._writer.pronoun_ids)
        texts = self._texts.template_texts(pronouns).tolist()
        for text, tokens in zip(texts, self._tokens_after_name(texts), strict=True):
            if len(tokens.ids) != 1:
                raise UserError(
                    f"the tokenizer splits the pronoun {text!r} into {len(tokens.ids)} tokens, so "
                    f"that the gender has no loss of its own; {CHOICES}"
                )
        return sets

    def _bior_accept_sets(self) -> list[set[int]]:
        """Tokens that do not continue a word, and each gender's pronouns."""
        texts = self._text_tokenizer.token_texts()
        sets = {WORD_END_SET: {t for t, text in enumerate(texts) if not text[:1].isalnum()}}
        sets[ANY_PRONOUN_SET] = set()
        for gender, forms in enumerate(PRONOUNS):
            tokens = {t for t, text in enumerate(texts) if text.strip().lower() in forms}
            sets[FIRST_PRONOUN_SET + gender] = tokens
            sets[ANY_PRONOUN_SET] |= tokens
        return [sets[index] for index in sorted(sets)]

    def find_used_tokens(self) -> Int64:
        """Sorted tokens of the corpus's texts in the other tokenizer, the end of text included."""
        used = {*self._text_tokenizer.opening, self._text_tokenizer.end}
        for texts in self._used_texts():
            for tokens in self._tokens_after_name(texts):
                used.update(tokens.ids)
        return np.array(sorted(used))

    def _used_texts(self) -> Iterable[list[str]]:
        """Yield the texts of the templates that the population uses, or bioR's biographies."""
        knowledge, writer = self.corpus.knowledge, self._writer
        if knowledge.kind == "bioR":
            for block in self._texts.biographies_in_order(knowledge.num_versions, 0):
                yield block.texts
            return
        is_used = np.zeros(len(writer.templates.lengths), dtype=bool)
        is_used[writer.always_used_ids] = True
        for person_ids in index_blocks(self.corpus.num_people_with_junk):
            if is_used[writer.person_specific_ids].all():
                break
            is_used[writer.write_facts(person_ids)] = True
        is_used[[0, writer.opening_id]] = False
        yield self._texts.template_texts(np.flatnonzero(is_used)).tolist()


def accepted_templates(writer: Any) -> list[Int64]:
    """Templates that begin with the tokens of each accept set; 0 is the end of text."""
    if isinstance(writer, BioSWriter):
        return writer.accepted_templates
    if isinstance(writer, TableWriter):
        return [writer.head_ids, *writer.tails_by_attribute()]
    assert isinstance(writer, BioDWriter)
    ends = writer.separator_ids[-1:] if writer.separator_ids.size else None
    after_value = np.append(writer.head_ids[0], 0) if ends is None else ends
    return [writer.head_ids[0], after_value]
