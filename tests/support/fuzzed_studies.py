"""Study files and records that are damaged at random, each a function of its seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

from tests.conftest import STUDY

SMOKE = (Path(__file__).parents[2] / "config" / "smoke.yaml").read_text()

VALUES = [
    *("0", "-1", "1", "2", "3", "7", "030", "0x10", "0o17", "1:30", "12:30:45", "1_000", "+5"),
    *("1e-06", "1e0", "1E+3", "1e-300", "1e300", "1e400", "-1e400", "1.5", ".5", "5.", "-0.0"),
    *(".inf", "-.inf", ".nan", "NaN", "Infinity", "inf", "0.1", "0.999", "1.0000001"),
    *("1000000000", "4294967296", "9223372036854775807", "9223372036854775808", "1" * 19),
    *("9" * 400, "1" * 5000, "-" + "9" * 30, "0." + "1" * 400, "1e" + "9" * 30, "100000"),
    *("yes", "no", "on", "off", "y", "true", "True", "null", "~", "''", '""', "' '", "=", "<<"),
    *("text", "GPT2", "bioS", "bioR", "bioD", "word", "Mistral", "LLaMA", "grammar", "trained"),
    *("int8", "2-2", "1-1", "0-0", "999-999", "1000000-1", "2-2-2", "²-²", "-", "a" * 300),
    *("'a\\nb'", '"a\\nb"', '"\\u0000"', '"\\ud800"', "\u00fc\u4e2d\U0001f600", "\u2028", "\x07"),
    *("$HOME", "${UNSET_VARIABLE}", "~/x", "~nobody-at-all/x", "{run}", "../..", "/", "a//b/", "."),
    *(
        "[]",
        "[[]]",
        "[[[]]]",
        "{}",
        "{a: 1}",
        "[1, 2]",
        "[[1, 2]]",
        "[1, 1]",
        "[null]",
        "[[0], [1]]",
    ),
    *("[1, [2, {a: [3]}]]", "[" * 40 + "]" * 40, "[" * 2000, "{a: " * 50, "!!int x", "!!set {a}"),
    *("!!python/none", "!own 1", "&x 1", "*x", "*scale", "&r [*r]", "|\n  text", ">", "# gone"),
    *("[0, 1, 2, 3, 4, 5, 6, 7]", "{kind: bioS, num_people: 9, seed: 0}", "2001-01-01", "'1e-3'"),
    "{useful_share: 0.125, num_junk_people: 100, domain_token: true}",
    "{useful_share: 1e-9, num_junk_people: 1, domain_token: false}",
    "{kind: bioR, num_people: 9, num_versions: 2, seed: 0, rewriter: grammar}",
    "{model: m, temperature: 1, top_p: 1, num_words: 9, max_attempts: 1}",
]

KEYS = [
    *("yes", "on", "1", "null", "x-own", "<<", "''", "a" * 300, '"a\\nb"', "? [a]", "? {b: 1}"),
    *("corpus", "corpus.mixture", "corpus.knowledge", "corpus.knowledge.num_people.more", "size"),
    *("replicates.seeds", "replicates.lr", "architecture.size", "architecture.family", "run"),
    *("optimization", "optimization.lr_warmup_iters", "grid", "laws", "kind", "rewriter", "."),
    *("architecture.num_moe_experts", "architecture.moe_expert_capacity_factor", "..", "a..b"),
    *("corpus.mixture.useful_share", "optimization.seq_length", "study", "results", "experiments"),
]

VALUE = re.compile(r"(?<=[:\[,] )[^\s\[\]{},:&*#][^\[\]{},:#\n]*|(?<=\[)[^\s\[\]{},&*]+")
KEY = re.compile(r"[A-Za-z_][\w.-]*(?=: |:\n)")


def fuzzed_study(seed: int) -> str:
    """A study file with up to four edits; a tenth of them is valid."""
    rng = random.Random(seed)
    text = rng.choice((STUDY, STUDY, SMOKE))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = rng.choice(MUTATIONS)(rng, text)
    return text


def fuzzed_record(seed: int, record: str) -> str:
    """A record in JSON with up to three mistakes."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        matches = [*re.finditer(r"(?<=:)[^{}:,\[\]]+|(?<=\[)[^{}\[\],]+", record)]
        if matches and rng.random() < 0.8:
            record = _replace(record, rng.choice(matches), rng.choice(VALUES))
        else:
            record = rng.choice((_remove_characters, _insert_characters))(rng, record)
    return record


def _replace(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


def _replace_value(rng: random.Random, text: str) -> str:
    matches = [*VALUE.finditer(text)]
    return _replace(text, rng.choice(matches), rng.choice(VALUES)) if matches else text


def _scale_number(rng: random.Random, text: str) -> str:
    matches = [*re.finditer(r"(?<=[ \[])[0-9]+(\.[0-9]+)?(?=[\s,\]}])", text)]
    if not matches:
        return text
    match = rng.choice(matches)
    return _replace(
        text, match, f"{float(match[0]) * 10 ** rng.choice((-12, -3, -1, 0, 1, 2, 3, 12)):g}"
    )


def _replace_key(rng: random.Random, text: str) -> str:
    matches = [*KEY.finditer(text)]
    return _replace(text, rng.choice(matches), rng.choice(KEYS)) if matches else text


def _change_lines(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    if not lines:
        return text
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case 3:
            lines[first] = " " * rng.randint(1, 3) + lines[first]
        case _:
            lines[first] = lines[first].removeprefix("  ")
    return "".join(lines)


def _remove_characters(rng: random.Random, text: str) -> str:
    start = rng.randrange(len(text) + 1)
    return text[:start] + text[start + rng.randint(1, 20) :]


def _insert_characters(rng: random.Random, text: str) -> str:
    start = rng.randrange(len(text) + 1)
    inserted = "".join(
        rng.choices("[]{}:,-&*!|>'\"%@`#\t\n 0a\x00\u00e9\ufeff", k=rng.randint(1, 4))
    )
    return text[:start] + inserted + text[start:]


def _truncate(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _add_block(rng: random.Random, text: str) -> str:
    fields = ", ".join(
        f"{rng.choice(KEYS)}: {rng.choice(VALUES)}" for _ in range(rng.randint(1, 3))
    )
    return text.replace("    grid:\n", f"    grid:\n      - {{{fields}}}\n", 1)


MUTATIONS: list[Callable[[random.Random, str], str]] = [
    *[_replace_value] * 6,
    *[_scale_number] * 4,
    *[_replace_key] * 2,
    *[_change_lines] * 2,
    *[_add_block] * 2,
    _remove_characters,
    _insert_characters,
    _truncate,
]
