"""What a study takes before it starts: a table by law, and what of it is there already.

Hours come from step times measured on a device, or from a speed that the user assumes; without
either there are none, as nothing here is a guess.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from knowcap.artifacts import identity
from knowcap.config import Positive, Precision, Record, Run
from knowcap.config.study import LAWS, Study
from knowcap.errors import UserError
from knowcap.planning.cost import Cost, cost, text_statistics

Seconds = Callable[[Cost], float]
"""How long a run trains."""


class MeasuredStep(Record):
    """One step of a training, all replicates together."""

    flops: Positive
    seconds: Positive


class Throughput(Record):
    """Measured speed of a device, as `results/reference/throughput.yaml` holds it."""

    device: str
    source: str
    """What made the measurement."""
    steps: Annotated[tuple[MeasuredStep, ...], Field(min_length=1)]
    """From small ones to large ones."""

    @model_validator(mode="after")
    def _steps_ascend(self) -> Self:
        flops = [step.flops for step in self.steps]
        if flops != sorted(set(flops)):
            raise ValueError("steps: their flops are not ascending")
        return self

    def seconds(self, needed: Cost) -> float:
        """How long a run trains."""
        return needed.train_iters * self.step_seconds(needed.flops / needed.train_iters)

    def step_seconds(self, flops: float) -> float:
        """How long a step takes.

        Between two measured steps a power law; below the smallest as long as that, for launches
        take the time; above the largest at its speed.
        """
        steps = self.steps
        above = bisect.bisect_left([step.flops for step in steps], flops)
        if above == 0:
            return steps[0].seconds
        low = steps[above - 1]
        if above == len(steps):
            return low.seconds * flops / low.flops
        high = steps[above]
        exponent = math.log(high.seconds / low.seconds) / math.log(high.flops / low.flops)
        return float(low.seconds * (flops / low.flops) ** exponent)


def load_throughput(path: Path) -> Throughput:
    """Read measured step times.

    Raises
    ------
    UserError
        If the file is missing or says something else.
    """
    try:
        return Throughput.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {field}: {first['msg']}, given {first['input']!r}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({error})".replace("\n", " ")) from None


def assumed(tflops: float) -> Seconds:
    """Tell how long runs train at an assumed speed, in 10^12 operations a second."""
    return lambda needed: needed.flops / (tflops * 1e12)


class CostSummary(NamedTuple):
    """What some runs of a study take together."""

    label: str
    num_runs: int
    num_done: int
    num_models: int
    num_tokens: float
    flops: float
    to_go_s: float
    """Of the runs that are not done, NaN if no speed is known."""
    weights_bytes: int
    other_bytes: int
    """Metrics and losses."""


class Plan(NamedTuple):
    """What a study takes."""

    laws: tuple[CostSummary, ...]
    """By law; a run that informs several is in each."""
    total: CostSummary
    """Every run once."""
    scratch_bytes: int
    """At most, while the largest run trains that is not done."""
    num_corpora: int
    num_estimated: int
    """Corpora that are not made yet, so that their tokens are estimated."""


def plan(study: Study, seconds: Seconds | None = None) -> Plan:
    """Reckon what a study takes, and look what of it is in its results."""
    results = Path(study.results)
    texts = {
        corpus: text_statistics(corpus, results) for corpus in {run.corpus for run in study.runs()}
    }
    costs = {run: cost(run, texts[run.corpus], study.evaluation) for run in study.runs()}
    done = _done(study.runs(), results)

    def share(label: str, measurements: Iterable[tuple[Run, Precision]]) -> CostSummary:
        asked = set(measurements)
        runs = {run for run, _ in asked}
        taken = [costs[run] for run in runs]
        to_go = [costs[run] for run in runs - done]
        losses = sum(costs[run].losses_bytes for run, _ in asked)
        return CostSummary(
            label=label,
            num_runs=len(runs),
            num_done=len(runs & done),
            num_models=sum(each.num_models for each in taken),
            num_tokens=math.fsum(each.num_tokens for each in taken),
            flops=math.fsum(each.flops for each in taken),
            to_go_s=math.fsum(map(seconds, to_go)) if seconds else math.nan,
            weights_bytes=sum(each.weights_bytes for each in taken),
            other_bytes=losses + sum(each.metrics_bytes for each in taken),
        )

    by_law = {law: study.measurements(law) for law in LAWS}
    return Plan(
        laws=tuple(share(str(law), asked) for law, asked in by_law.items() if asked),
        total=share("all", study.measurements()),
        scratch_bytes=max((costs[run].scratch_bytes for run in costs.keys() - done), default=0),
        num_corpora=len(texts),
        num_estimated=sum(not each.is_measured for each in texts.values()),
    )


def _done(runs: Sequence[Run], results: Path) -> set[Run]:
    """Find the runs that are trained."""
    folder = results / "runs"
    return {run for run in runs if (folder / identity.run_name(run) / "DONE").exists()}


COLUMNS: tuple[tuple[str, Callable[[CostSummary], str]], ...] = (
    ("law", lambda share: share.label),
    ("runs", lambda share: str(share.num_runs)),
    ("done", lambda share: str(share.num_done)),
    ("models", lambda share: str(share.num_models)),
    ("tokens", lambda share: f"{share.num_tokens:.2e}"),
    ("FLOP", lambda share: f"{share.flops:.2e}"),
    ("hours to go", lambda share: "?" if math.isnan(share.to_go_s) else _hours(share.to_go_s)),
    ("weights", lambda share: _bytes(share.weights_bytes)),
    ("metrics, losses", lambda share: _bytes(share.other_bytes)),
)
"""Of the table, and how each is written."""


def table(plan: Plan) -> str:
    """Write a plan for people, a row for each law and one for all."""
    header = [name for name, _ in COLUMNS]
    rows = [[write(share) for _, write in COLUMNS] for share in (*plan.laws, plan.total)]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]
    notes = ["A run that informs several laws is in each of them, and once in all."]
    if plan.num_estimated:
        notes.append(
            f"Tokens are estimated for {plan.num_estimated} of {plan.num_corpora} corpora, "
            f"which are not made yet."
        )
    notes.append(
        f"Checkpoints of each run under way take up to {_bytes(plan.scratch_bytes)} of scratch."
    )
    return "\n".join([*lines, "", *notes])


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
