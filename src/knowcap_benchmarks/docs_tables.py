"""Where tables of benchmarks go: a page of their own, the documentation, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from knowcap.artifacts import files
from knowcap.errors import UserError
from knowcap_benchmarks.tables import (
    Results,
    cell,
    load_results,
    machine_line,
    performance_page,
    table,
)

SHORT = (
    *("transformers", "transformers-compiled", "transformers-bf16-compiled"),
    *("litgpt", "litgpt-bf16-compiled", "megatron", "plain", "plain-bf16"),
)
"""Beside ours in the README."""


def write_tables(
    paths: Sequence[Path],
    output: Path | None,
    figure: Path | None,
    page: Path | None,
    readme: Path | None,
) -> None:
    """Write results as tables, each to where it is wanted.

    Parameters
    ----------
    paths
        Results, as :func:`knowcap_benchmarks.measure` made them.
    output
        Gets all tables, and beside it a CSV of each comparison.
    figure
        Gets the growth of costs as SVG.
    page, readme
        Get all tables, or the comparisons of training in short, between their markers.

    Raises
    ------
    UserError
        If a result is missing, or markers are.
    """
    results = load_results(paths)
    if output is not None:
        files.write_text(output, performance_page(results) + "\n")
        for name, result in results.items():
            if result["kind"] == "training":
                files.write_text(output.with_name(f"{name}.csv"), csv_table(result))
    if figure is not None:
        from knowcap_benchmarks.plots import draw_growth

        growth = [result for result in results.values() if result["kind"] == "growth"]
        if not growth:
            raise UserError("--figure: no growth among the results")
        draw_growth(growth[0], figure)
    if page is not None:
        files.replace_between_markers(page, "benchmarks", performance_page(results))
    if readme is not None:
        files.replace_between_markers(readme, "speed", readme_table(results))


def readme_table(results: Results) -> str:
    """Write the comparisons of training in a few lines: one column for each case."""
    found = [result for result in results.values() if result["kind"] == "training"]
    if not found:
        raise UserError("benchmark: no comparison of trainings among the results")
    ours = ("knowcap", "knowcap-bf16")
    names = [
        name for name in (*SHORT, *ours) if any(_was_measured(result, name) for result in found)
    ]
    head = ["tokens per second", *(result["case"]["title"] for result in found)]
    rows = [
        [_label(found, name), *(cell(result["implementations"].get(name)) for result in found)]
        for name in names
    ]
    machine = max((result["machine"] for result in found), key=itemgetter("num_threads"))
    return f"{table(head, rows)}\n\n{machine_line(machine)}"


def _was_measured(result: dict[str, Any], name: str) -> bool:
    """Whether an implementation ran; why not is in the page of all results."""
    entry = result["implementations"].get(name)
    return entry is not None and "failed" not in entry["rounds"][-1]


def csv_table(result: dict[str, Any]) -> str:
    """Write a comparison as CSV: a row for each implementation and round."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "implementation", "round", "tokens_per_s", "step_ms", "peak_bytes"])
    for name, entry in result["implementations"].items():
        for number, answer in enumerate(entry["rounds"]):
            values = [answer.get(key, "") for key in ("tokens_per_s", "step_ms", "peak_bytes")]
            writer.writerow([result["name"], name, number, *values])
    return text.getvalue()


def _label(results: Sequence[dict[str, Any]], name: str) -> str:
    return str(
        next(
            result["implementations"][name]["label"]
            for result in results
            if name in result["implementations"]
        )
    )
