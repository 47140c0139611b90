"""Cost of a study by law, how much of it is done, and the table of `knowcap plan`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from knowcap.artifacts import identity
from knowcap.artifacts.durations import format_duration
from knowcap.config import Precision, Run
from knowcap.config.study import LAWS, Study
from knowcap.planning.cost import cost, text_statistics
from knowcap.planning.finished_runs import from_finished_runs
from knowcap.planning.training_time import UNKNOWN, TrainingTime
from knowcap.training.run_dir import DONE_FILE


class CostSummary(NamedTuple):
    """Total cost of some runs of a study."""

    label: str
    """A law, or "all"."""
    num_runs: int
    num_done: int
    """Runs that are trained."""
    num_models: int
    num_tokens: float
    flops: float
    to_go_s: float
    """Training time of the runs that are not done, one after the other; NaN if unknown."""
    weights_bytes: int
    other_bytes: int
    """Size of metrics and losses."""


class Plan(NamedTuple):
    """Cost of a study."""

    laws: tuple[CostSummary, ...]
    """Cost by law; a run that tests several laws is counted in each."""
    total: CostSummary
    """Cost of all runs, each counted once."""
    scratch_bytes: int
    """Largest size of a scratch folder among the runs that are not done."""
    num_corpora: int
    num_estimated: int
    """Corpora that do not exist yet; their numbers of tokens are estimates."""
    time_source: str
    """A sentence that names the source of the training times."""


def plan(study: Study, training_time: TrainingTime | None = None) -> Plan:
    """Return the cost of a study and how much of it is done.

    Parameters
    ----------
    study
        The study.
    training_time
        Estimate of training times; by default from the finished runs of the results folder.
    """
    training_time = training_time or from_finished_runs(study) or UNKNOWN
    results = Path(study.results)
    texts = {
        corpus: text_statistics(corpus, results) for corpus in {run.corpus for run in study.runs()}
    }
    costs = {run: cost(run, texts[run.corpus], study.evaluation) for run in study.runs()}
    done = _done_runs(study.runs(), results)

    def summarize(label: str, measurements: Iterable[tuple[Run, Precision]]) -> CostSummary:
        pairs = set(measurements)
        runs = {run for run, _ in pairs}
        run_costs = [costs[run] for run in runs]
        losses_bytes = sum(costs[run].losses_bytes for run, _ in pairs)
        return CostSummary(
            label=label,
            num_runs=len(runs),
            num_done=len(runs & done),
            num_models=sum(each.num_models for each in run_costs),
            num_tokens=math.fsum(each.num_tokens for each in run_costs),
            flops=math.fsum(each.flops for each in run_costs),
            to_go_s=math.fsum(training_time.seconds(run, costs[run]) for run in runs - done),
            weights_bytes=sum(each.weights_bytes for each in run_costs),
            other_bytes=losses_bytes + sum(each.metrics_bytes for each in run_costs),
        )

    by_law = {law: study.measurements(law) for law in LAWS}
    return Plan(
        laws=tuple(summarize(str(law), pairs) for law, pairs in by_law.items() if pairs),
        total=summarize("all", study.measurements()),
        scratch_bytes=max((costs[run].scratch_bytes for run in costs.keys() - done), default=0),
        num_corpora=len(texts),
        num_estimated=sum(not each.is_measured for each in texts.values()),
        time_source=training_time.source,
    )


def _done_runs(runs: Sequence[Run], results: Path) -> set[Run]:
    folder = results / "runs"
    return {run for run in runs if (folder / identity.run_name(run) / DONE_FILE).exists()}


COLUMNS: dict[str, Callable[[CostSummary], str]] = {
    "law": lambda summary: summary.label,
    "runs": lambda summary: str(summary.num_runs),
    "done": lambda summary: str(summary.num_done),
    "models": lambda summary: str(summary.num_models),
    "tokens": lambda summary: f"{summary.num_tokens:.2e}",
    "FLOP": lambda summary: f"{summary.flops:.2e}",
    "time left": lambda summary: (
        "?" if math.isnan(summary.to_go_s) else format_duration(summary.to_go_s)
    ),
    "weights": lambda summary: _format_bytes(summary.weights_bytes),
    "metrics, losses": lambda summary: _format_bytes(summary.other_bytes),
}
"""Columns of the table and the text of their cells."""


def format_plan(plan: Plan) -> str:
    """Return a plan as a table with a row for each law and one for all runs, and notes."""
    rows = [[cell(summary) for cell in COLUMNS.values()] for summary in (*plan.laws, plan.total)]
    table = tabulate(rows, [*COLUMNS], tablefmt="plain", stralign="right", disable_numparse=True)
    counts = "A run that tests several laws counts in the row of each, and once in the row of all."
    notes = [counts] if plan.laws else []
    if plan.num_estimated:
        notes.append(
            f"Tokens are estimated for {plan.num_estimated} of {plan.num_corpora} corpora, which "
            f"are not made yet."
        )
    if plan.total.num_done < plan.total.num_runs:
        notes.append(
            f"Checkpoints of each training take up to {_format_bytes(plan.scratch_bytes)} of the "
            f"scratch folder."
        )
        notes.append(plan.time_source)
    return "\n".join([table, "", *notes])


def _format_bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
