"""bioR by a language model: it is told the facts of a person and asked for a biography.

Texts that do not tell every fact word for word are thrown away and drawn again. A block of people
is kept as soon as it is complete, so that an interrupted corpus goes on from there.
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
from knowcap.data.bior import Rewritten
from knowcap.data.bios import BioSWriter
from knowcap.data.people import Profile
from knowcap.data.rng import Int64, key
from knowcap.data.tokenizer import gpt2_tokenizer
from knowcap.errors import UserError

PEOPLE_BLOCK = 16
"""People whose biographies are kept together."""

BATCH_TEXTS = 64
"""Texts that are drawn together."""

TOKENS_PER_WORD = 4
"""A text is cut off when it has as many times more tokens than words were asked for."""

REQUEST = (
    "Write a biography of about {num_words} words about the person in the facts below. Be "
    "creative: find words of your own, tell the facts in another order and join them as you like. "
    "Begin with the full name, {name}, and use it only once; later write {he}. Copy each date, "
    "city, university, major and company exactly as it stands in the facts. Write nothing else."
    "\n\nFacts:{facts}\n\nBiography:"
)
"""What is asked for."""  # ASSUME: the paper's length and wording for LLaMA-2 are not known.

_WEIGHTS = ("*.safetensors", "*.bin")

_log = logging.getLogger(__name__)


def rewrite(knowledge: BioR, folder: Path) -> Iterator[Rewritten]:
    """Let the language model of a record rewrite everybody's biography.

    Parameters
    ----------
    knowledge
        Who is written about, how often and by which model.
    folder
        Of the corpus. Complete blocks of people are kept in ``rewriting`` below it.

    Returns
    -------
    Iterator[Rewritten]
        Every version of a block of people, from person 0 on.

    Raises
    ------
    UserError
        If the model cannot be had, at once; while iterating, if a text fails `max_attempts` times.
    """
    assert isinstance(knowledge.rewriter, LanguageModel)
    return _rewritten(_Writer(knowledge.rewriter), knowledge, folder)


def _rewritten(writer: _Writer, knowledge: BioR, folder: Path) -> Iterator[Rewritten]:
    """Block after block, kept or written now."""
    blocks = range(0, knowledge.num_people, PEOPLE_BLOCK)
    for number, start in enumerate(blocks):
        path = folder / "rewriting" / f"{number:08d}.json"
        block = _kept(path, knowledge)
        if block is None:
            person = np.arange(start, min(start + PEOPLE_BLOCK, knowledge.num_people))
            block = _written(writer, knowledge, person)
            kept = {"format": 1, "record": knowledge.model_dump(mode="json"), **block._asdict()}
            files.write_json(path, kept)
            _log.info("rewrote people up to %d of %d", person[-1] + 1, knowledge.num_people)
        yield block


def prompts(knowledge: BioR, person: Int64) -> list[str]:
    """What the model is asked for every version of some people's biographies.

    The facts are told in bioS's sentences, every time in other ones and in another order.
    """
    assert isinstance(knowledge.rewriter, LanguageModel)
    same_people = BioS(kind="bioS", num_people=knowledge.num_people, seed=knowledge.seed)
    tokenizer = gpt2_tokenizer()
    writer = BioSWriter(same_people, tokenizer)
    repeated, version = np.divmod(
        np.arange(person.size * knowledge.num_versions), knowledge.num_versions
    )
    rows = writer.written(person[repeated], version, knowledge.seed)
    facts = tokenizer.decode_batch([writer.fragments.assembled(row[1:]).tolist() for row in rows])
    about = people.profiles(knowledge, person[repeated])
    return [
        REQUEST.format(
            num_words=knowledge.rewriter.num_words,
            name=profile.name.strip(),
            he=value_spans.PRONOUNS[profile.gender][0],
            facts=told,
        )
        for told, profile in zip(facts, about, strict=True)
    ]


class _Writer:
    """A language model, its tokenizer and how it is sampled."""

    def __init__(self, record: LanguageModel) -> None:
        self.record = record
        transformers = _transformers()
        _refuse_empty_folder(Path(record.model))
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                record.model, revision=record.revision or "main", padding_side="left"
            )
            self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                record.model, revision=record.revision or "main", dtype="auto"
            )
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"rewriter.model: {record.model} cannot be had ({reason})") from error
        self._model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def write(self, requests: Sequence[str], seed: int) -> list[str]:
        """Sample a text for each request; the same ones in the same batch with the same seed."""
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
        answers = tokens[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(answers, skip_special_tokens=True)
        return texts


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError(
            "rewriter.model: needs the package transformers: pip install 'knowcap[rewrite]'"
        ) from None
    return transformers


def _refuse_empty_folder(folder: Path) -> None:
    """Refuse a folder without a model before anything is loaded."""
    if folder.is_absolute() and not folder.exists():
        raise UserError(f"rewriter.model: {folder}: no such folder")
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise UserError(f"rewriter.model: {folder} is a folder without weights")


def _kept(path: Path, knowledge: BioR) -> Rewritten | None:
    """Read a block that an earlier attempt completed."""
    if not path.exists():
        return None
    kept = files.read_json(path)
    if BioR.model_validate_json(json.dumps(kept["record"])) != knowledge:
        return None
    return Rewritten(kept["texts"], kept["num_rejected"])


def _written(writer: _Writer, knowledge: BioR, person: Int64) -> Rewritten:
    """Draw texts for some people until each has told everything."""
    requests = prompts(knowledge, person)
    about = people.profiles(knowledge, np.repeat(person, knowledge.num_versions))
    texts: list[str | None] = [None] * len(requests)
    num_drawn = 0
    for attempt in range(writer.record.max_attempts):
        waiting = [number for number, text in enumerate(texts) if text is None]
        for start in range(0, len(waiting), BATCH_TEXTS):
            batch = waiting[start : start + BATCH_TEXTS]
            seed = int(key(knowledge.seed, "rewrite", int(person[0]), attempt, start)) >> 1
            drawn = writer.write([requests[number] for number in batch], seed)
            num_drawn += len(drawn)
            for number, answer in zip(batch, drawn, strict=True):
                texts[number] = biography(answer, about[number])
    complete = [text for text in texts if text is not None]
    if len(complete) < len(texts):
        number = texts.index(None)
        raise UserError(
            f"rewriter: {writer.record.model} wrote no biography of person "
            f"{person[number // knowledge.num_versions]} that tells every fact in "
            f"{writer.record.max_attempts} attempts, "
            f"{num_drawn - len(complete)} of {num_drawn} texts were rejected; "
            f"take another model or raise max_attempts"
        )
    return Rewritten(complete, num_drawn - len(complete))


def biography(answer: str, profile: Profile) -> str | None:
    """What of an answer is a biography, or None.

    Polite words before the line that begins with the name are left out, as is a last sentence that
    was cut off; spaces and line breaks become single spaces.
    """
    lines = [" ".join(line.split()) for line in answer.splitlines()]
    name = profile.name.strip()
    first = next((n for n, line in enumerate(lines) if line.startswith(name)), None)
    if first is None:
        return None
    text = " " + " ".join(line for line in lines[first:] if line)
    text = text[: max(text.rfind(mark) for mark in ".!?") + 1]
    return text if value_spans.find(text, profile) is not None else None
