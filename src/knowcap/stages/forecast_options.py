"""Options of a forecast: their mistakes, and the numbers that they give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from knowcap.capacity.forecast.forecast import Given
from knowcap.capacity.forecast.knowledge_size import bits_of_people, size_of_text
from knowcap.capacity.forecast.number_text import number_text
from knowcap.config import Architecture, Record
from knowcap.config.knowledge import BioS
from knowcap.errors import record_errors
from knowcap.model.num_params import num_params
from knowcap.planning.cost import BIOS_TEXT_STATISTICS
from knowcap.planning.gpus import PEAK_TFLOPS, UTILIZATION

GPT2_VOCAB_SIZE = 50_257

SECONDS_PER_HOUR = 3600

SIZE_DEFAULTS = {
    "kv_channels": 64,  # PAPER 2.3: GPT2-l-h has heads of 64 channels
    "rotary_percent": 0.25,
    "rotary_base": 10_000,
    "init_method_std": 0.02,
}
"""Fields of an architecture besides its size; only the first affects the number of parameters."""

TYPICAL_PEOPLE = 1_000_000
"""People of bioS whose tokens per bit stand for those of other knowledge."""


class ForecastOptions(NamedTuple):
    """Options that are given; None are not."""

    bits: float | None = None
    people: int | None = None
    text: Path | None = None
    params: float | None = None
    size: str | None = None
    family: str = "GPT2"
    vocab_size: int | None = None
    exposures: float | None = None
    precision: str = "trained"
    gpu: str | None = None
    hours: float | None = None
    utilization: float | None = None
    tokens: float | None = None


class Knowledge(NamedTuple):
    """Bits and tokens of the given knowledge; None if none is given."""

    bits: float | None
    tokens_per_exposure: float | None
    used_tokens: tuple[int, str]
    """Tokens whose embedding rows count, and which these are."""
    size: str
    """Sentence on the bits; empty if no knowledge is given."""
    length: str
    """Tokens of one exposure in words."""


def option_errors(options: ForecastOptions) -> Iterator[str]:
    """Yield the mistakes of the options."""
    knowledge = [name for name in ("bits", "people", "text") if getattr(options, name) is not None]
    model = [name for name in ("params", "size") if getattr(options, name) is not None]
    for names, allowed in (
        (knowledge, "--bits, --people and --text"),
        (model, "--params and --size"),
    ):
        if len(names) > 1:
            given = " and ".join(f"--{name}" for name in names)
            yield f"{given}: only one of {allowed} is allowed"
    if not (knowledge or model or (options.gpu and options.hours)):
        yield (
            "nothing is given: the knowledge (--bits, --people or --text), the model (--params or "
            "--size) or the compute (--gpu and --hours) is needed"
        )
    for name in ("hours", "utilization"):
        if getattr(options, name) is not None and options.gpu is None:
            yield f"--{name}: needs --gpu, one of {', '.join(PEAK_TFLOPS)}"
    if options.utilization is not None and options.utilization > 1:
        yield f"--utilization: {options.utilization:g} is not allowed; at most 1"
    if options.vocab_size is not None and options.size is None:
        yield "--vocab-size: needs --size"
    if options.text is not None and not options.text.is_file():
        yield f"--text: {options.text}: no such file"
    if options.people is not None:
        population = {"kind": "bioS", "num_people": options.people, "seed": 0}
        yield from _record_errors("--people", BioS, population)
    if options.size is not None:
        yield from _record_errors("--size", Architecture, _architecture(options))


def _architecture(options: ForecastOptions) -> dict[str, Any]:
    """Fields of the architecture of `--size`."""
    return {**SIZE_DEFAULTS, "family": options.family, "size": options.size}


def _record_errors(option: str, record: type[Record], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the errors of a record whose fields an option sets."""
    try:
        record.model_validate(values)
    except ValidationError as error:
        for line in record_errors(error):
            yield f"{option}: {line.split(': ', 1)[-1]}"


def given_numbers(options: ForecastOptions) -> tuple[Given, list[str]]:
    """Return the given numbers, with sentences on where they come from."""
    knowledge = _knowledge(options)
    tokens, length = knowledge.tokens_per_exposure, knowledge.length
    if options.tokens is not None:
        tokens, length = options.tokens, f"{number_text(options.tokens)} tokens (--tokens)"
    size, model = _model(options, knowledge.used_tokens)
    weights = f"Weights: {options.precision}, quantised after training."
    sentences = [
        knowledge.size,
        model,
        weights if options.precision != "trained" else "",
        f"One exposure: {length}.",
    ]
    flops_per_hour = None
    if options.gpu is not None:
        flops_per_hour, speed = _speed(options.gpu, options.utilization)
        sentences.append(speed)
    given = Given(
        tokens_per_bit=_tokens_per_bit(),
        bits=knowledge.bits,
        num_params=size,
        exposures=options.exposures,
        tokens_per_exposure=tokens,
        flops_per_hour=flops_per_hour,
        hours=options.hours,
    )
    return given, [sentence for sentence in sentences if sentence]


def _tokens_per_bit() -> float:
    """Tokens of bioS per bit of its knowledge."""
    # ASSUME: other knowledge is written in as many tokens per bit as bioS of a million people.
    length = BIOS_TEXT_STATISTICS["GPT2"].tokens_per_biography
    return length * TYPICAL_PEOPLE / bits_of_people(TYPICAL_PEOPLE)


def _knowledge(options: ForecastOptions) -> Knowledge:
    """Bits and tokens of people, of a text, or as given."""
    if options.people is not None:
        statistics = BIOS_TEXT_STATISTICS["GPT2"]
        bits, length = bits_of_people(options.people), statistics.tokens_per_biography
        return Knowledge(
            bits,
            options.people * length,
            (statistics.vocab_size, "the tokens that bioS uses"),
            f"Knowledge: {options.people:,} people of bioS with {bits / options.people:.4g} bits "
            f"each (paper, Definition 4.3), {number_text(bits)} bits.",
            f"{length:g} tokens per biography of bioS",
        )
    if options.text is not None:
        text = size_of_text(options.text)
        return Knowledge(
            text.num_bits,
            text.num_tokens,
            (text.num_distinct, "the tokens that the text uses"),
            f"Knowledge: at most {number_text(text.num_bits)} bits, the size of {options.text} "
            f"compressed by {text.compressor}. This is an upper bound, as a better compressor "
            "needs less; so the parameters for these bits are an upper bound too.",
            f"{text.num_tokens:,} tokens of GPT-2's tokenizer in the text",
        )
    size = "" if options.bits is None else f"Knowledge: {number_text(options.bits)} bits."
    length_text = (
        f"{_tokens_per_bit():.3g} tokens per bit, as in bioS (assumed; --tokens sets them)"
    )
    all_tokens = (GPT2_VOCAB_SIZE, "the whole vocabulary of GPT-2")
    return Knowledge(options.bits, None, all_tokens, size, length_text)


def _model(options: ForecastOptions, used_tokens: tuple[int, str]) -> tuple[float | None, str]:
    """Parameters of the model and a sentence on them; None if no model is given."""
    if options.params is not None:
        return options.params, f"Model: {options.family}, {number_text(options.params)} parameters."
    if options.size is None:
        return None, ""
    vocab_size, vocabulary = used_tokens
    if options.vocab_size is not None:
        vocab_size, vocabulary = options.vocab_size, "--vocab-size"
    record = Architecture.model_validate(_architecture(options))
    total = num_params(record, vocab_size)["total"]
    return total, (
        f"Model: {record.label}, {total:,} parameters with {vocab_size:,} tokens ({vocabulary})."
    )


def _speed(gpu: str, utilization: float | None) -> tuple[float, str]:
    """Operations of a GPU in an hour, and a sentence on them."""
    peak, share = PEAK_TFLOPS[gpu], utilization or UTILIZATION
    origin = "assumed" if utilization is None else "--utilization"
    return peak * 1e12 * share * SECONDS_PER_HOUR, (
        f"GPU: {gpu}, {peak:g} TFLOP/s of which {100 * share:g} % are reached ({origin}; "
        "models below a hundred million parameters reach less)."
    )
