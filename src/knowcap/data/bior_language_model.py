"""bioR by a language model: requests, sampling, rejection and resumable blocks.

Each request lists the facts of a person and requests a biography. Texts that lack a fact are
rejected and sampled again. Each block of people is saved when it is complete, so an interrupted
corpus resumes from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from knowcap.artifacts import files
from knowcap.config import BioR, BioS, LanguageModel
from knowcap.data import people, value_spans
from knowcap.data.bior import RewrittenBiographies
from knowcap.data.bios import BioSWriter
from knowcap.data.people import Person
from knowcap.data.rng import Int64, derive_key
from knowcap.data.tokenizer import gpt2_tokenizer
from knowcap.errors import UserError

PEOPLE_PER_BLOCK = 16
"""People whose biographies are saved in one file."""

TEXTS_PER_BATCH = 64
"""Texts sampled at once."""

TOKENS_PER_WORD = 4
"""A text is cut off after this many tokens per requested word."""

REQUEST = (
    "Write a biography of about {num_words} words about the person in the facts below. Be "
    "creative: find words of your own, tell the facts in another order and join them as you like. "
    "Begin with the full name, {name}, and use it only once; later write {he}. Copy each date, "
    "city, university, major and company exactly as it stands in the facts. Write nothing else."
    "\n\nFacts:{facts}\n\nBiography:"
)
"""Request to the language model."""  # ASSUME: the paper does not state its request.

_WEIGHT_PATTERNS = ("*.safetensors", "*.bin")

_log = logging.getLogger(__name__)


def rewrite(knowledge: BioR, folder: Path) -> Iterator[RewrittenBiographies]:
    """Rewrite all biographies with the language model of a record.

    Parameters
    ----------
    knowledge
        The population, the number of versions and the language model.
    folder
        Folder of the corpus. Complete blocks are saved in ``rewriting`` below it.

    Returns
    -------
    Iterator[RewrittenBiographies]
        All versions of a block of people, from person 0 on.

    Raises
    ------
    UserError
        Immediately if the model cannot be loaded; while iterating, if `max_attempts` texts of one
        biography are rejected.
    """
    assert isinstance(knowledge.rewriter, LanguageModel)
    return _rewrite_blocks(_TextSampler(knowledge.rewriter), knowledge, folder)


def _rewrite_blocks(
    sampler: _TextSampler, knowledge: BioR, folder: Path
) -> Iterator[RewrittenBiographies]:
    """Yield block after block, from disk or newly sampled."""
    starts = range(0, knowledge.num_people, PEOPLE_PER_BLOCK)
    for block_id, start in enumerate(starts):
        path = folder / "rewriting" / f"{block_id:08d}.json"
        block = _load_block(path, knowledge)
        if block is None:
            person_ids = np.arange(start, min(start + PEOPLE_PER_BLOCK, knowledge.num_people))
            block = _rewrite_people(sampler, knowledge, person_ids)
            saved = {"format": 1, "record": knowledge.model_dump(mode="json"), **block._asdict()}
            files.write_json(path, saved)
            _log.info("rewrote people up to %d of %d", person_ids[-1] + 1, knowledge.num_people)
        yield block


def write_requests(knowledge: BioR, person_ids: Int64) -> list[str]:
    """Requests for every version of some people's biographies.

    The facts are the person's bioS sentences, in a different wording and order for each version.
    """
    assert isinstance(knowledge.rewriter, LanguageModel)
    same_people = BioS(kind="bioS", num_people=knowledge.num_people, seed=knowledge.seed)
    tokenizer = gpt2_tokenizer()
    writer = BioSWriter(same_people, tokenizer)
    indices, versions = np.divmod(
        np.arange(person_ids.size * knowledge.num_versions), knowledge.num_versions
    )
    rows = writer.write_biographies(person_ids[indices], versions, knowledge.seed)
    facts = tokenizer.decode_batch(
        [writer.templates.gather_tokens(row[1:]).tolist() for row in rows]
    )
    subjects = people.describe_people(knowledge, person_ids[indices])
    return [
        REQUEST.format(
            num_words=knowledge.rewriter.num_words,
            name=person.name.strip(),
            he=value_spans.PRONOUNS[person.gender][0],
            facts=sentences,
        )
        for sentences, person in zip(facts, subjects, strict=True)
    ]


class _TextSampler:
    """A language model with its tokenizer and sampling parameters."""

    def __init__(self, record: LanguageModel) -> None:
        self.record = record
        transformers = _import_transformers()
        _check_folder(Path(record.model))
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                record.model, revision=record.revision or "main", padding_side="left"
            )
            self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                record.model, revision=record.revision or "main", dtype="auto"
            )
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"rewriter.model: {record.model} cannot be loaded ({reason})"
            ) from error
        self._model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def sample_texts(self, requests: Sequence[str], seed: int) -> list[str]:
        """Sample a text for each request; batch and seed determine the result."""
        if self._tokenizer.chat_template is not None:
            chats = [[{"role": "user", "content": request}] for request in requests]
            inputs = self._tokenizer.apply_chat_template(
                chats,
                add_generation_prompt=True,
                padding=True,
                return_tensors="pt",
                return_dict=True,
            )
        else:
            inputs = self._tokenizer(list(requests), padding=True, return_tensors="pt")
        inputs = inputs.to(self._model.device)
        torch.manual_seed(seed)
        with torch.inference_mode():
            tokens = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                temperature=self.record.temperature,
                top_p=self.record.top_p,
                top_k=0,
                max_new_tokens=TOKENS_PER_WORD * self.record.num_words,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        responses = tokens[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(responses, skip_special_tokens=True)
        return texts


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError(
            "rewriter.model: needs the package transformers: pip install 'knowcap[rewrite]'"
        ) from None
    return transformers


def _check_folder(folder: Path) -> None:
    """Raise an error if the model is a folder without weights."""
    if folder.is_absolute() and not folder.exists():
        raise UserError(f"rewriter.model: {folder}: no such folder")
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in _WEIGHT_PATTERNS):
        allowed = ", ".join(_WEIGHT_PATTERNS)
        raise UserError(f"rewriter.model: {folder} is a folder without weights ({allowed})")


def _load_block(path: Path, knowledge: BioR) -> RewrittenBiographies | None:
    """Read a saved block; None if there is none of this record."""
    if not path.exists():
        return None
    saved = files.read_json(path)
    if BioR.model_validate_json(json.dumps(saved["record"])) != knowledge:
        return None
    return RewrittenBiographies(saved["texts"], saved["num_rejected"])


def _rewrite_people(
    sampler: _TextSampler, knowledge: BioR, person_ids: Int64
) -> RewrittenBiographies:
    """Sample texts for some people until every version states all facts."""
    requests = write_requests(knowledge, person_ids)
    subjects = people.describe_people(knowledge, np.repeat(person_ids, knowledge.num_versions))
    texts: list[str | None] = [None] * len(requests)
    num_sampled = 0
    for attempt in range(sampler.record.max_attempts):
        missing = [index for index, text in enumerate(texts) if text is None]
        for start in range(0, len(missing), TEXTS_PER_BATCH):
            batch = missing[start : start + TEXTS_PER_BATCH]
            key = derive_key(knowledge.seed, "rewrite", int(person_ids[0]), attempt, start)
            responses = sampler.sample_texts([requests[index] for index in batch], int(key) >> 1)
            num_sampled += len(responses)
            for index, response in zip(batch, responses, strict=True):
                texts[index] = extract_biography(response, subjects[index])
    complete = [text for text in texts if text is not None]
    if len(complete) < len(texts):
        person_id = person_ids[texts.index(None) // knowledge.num_versions]
        raise UserError(
            f"rewriter.max_attempts: {sampler.record.model} wrote no biography of person "
            f"{person_id} with all facts in {sampler.record.max_attempts} attempts "
            f"({num_sampled - len(complete)} of {num_sampled} texts were rejected); "
            f"use another model or raise max_attempts"
        )
    return RewrittenBiographies(complete, num_sampled - len(complete))


def extract_biography(response: str, person: Person) -> str | None:
    """The biography in a model's response; None if it lacks a fact.

    Lines before the one that begins with the name and an unfinished last sentence are removed.
    Spaces and line breaks become single spaces.
    """
    lines = [" ".join(line.split()) for line in response.splitlines()]
    name = person.name.strip()
    first = next((index for index, line in enumerate(lines) if line.startswith(name)), None)
    if first is None:
        return None
    text = " " + " ".join(line for line in lines[first:] if line)
    text = text[: max(text.rfind(mark) for mark in ".!?") + 1]
    return text if value_spans.find_value_spans(text, person) is not None else None
