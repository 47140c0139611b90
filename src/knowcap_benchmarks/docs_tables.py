"""Writers of the benchmark tables: Markdown file, marked parts of pages, and CSV."""

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
    all_tables,
    load_results,
    machine_sentence,
    markdown_table,
    speed_cell,
)

README_PEERS = (
    *("transformers", "transformers-compiled", "transformers-bf16-compiled"),
    *("litgpt", "litgpt-bf16-compiled", "megatron", "plain", "plain-bf16"),
)
"""Implementations beside knowcap in the README."""


def write_tables(
    paths: Sequence[Path],
    output: Path | None,
    figure: Path | None,
    page: Path | None,
    readme: Path | None,
) -> None:
    """Write tables and a figure from benchmark results.

    Parameters
    ----------
    paths
        JSON files with results of :func:`knowcap_benchmarks.run_benchmark`.
    output
        Markdown file for all tables. A CSV file of each training comparison is written beside it.
    figure
        SVG file for the growth of costs.
    page
        Page whose `benchmarks` markers enclose all tables.
    readme
        Page whose `speed` markers enclose the short table of training speeds.

    Raises
    ------
    UserError
        If a result or a marker is missing.
    """
    results = load_results(paths)
    if output is not None:
        files.write_text(output, all_tables(results) + "\n")
        for name, result in results.items():
            if result["kind"] == "training":
                files.write_text(output.with_name(f"{name}.csv"), csv_table(result))
    if figure is not None:
        from knowcap_benchmarks.plots import draw_growth

        growth = [result for result in results.values() if result["kind"] == "growth"]
        if not growth:
            raise UserError("--figure: needs a result of the benchmark `growth`")
        draw_growth(growth[0], figure)
    if page is not None:
        files.replace_between_markers(page, "benchmarks", all_tables(results))
    if readme is not None:
        files.replace_between_markers(readme, "speed", readme_table(results))


def readme_table(results: Results) -> str:
    """Table of training speeds, with one column for each case."""
    comparisons = [result for result in results.values() if result["kind"] == "training"]
    if not comparisons:
        raise UserError("--readme: needs a result of a training comparison")
    knowcap = ("knowcap", "knowcap-bf16")
    names = [
        name
        for name in (*README_PEERS, *knowcap)
        if any(_was_measured(result, name) for result in comparisons)
    ]
    head = ["tokens per second", *(result["case"]["title"] for result in comparisons)]
    rows = [
        [
            _label(comparisons, name),
            *(speed_cell(result["implementations"].get(name)) for result in comparisons),
        ]
        for name in names
    ]
    machine = max((result["machine"] for result in comparisons), key=itemgetter("num_threads"))
    return f"{markdown_table(head, rows)}\n\n{machine_sentence(machine)}"


def _was_measured(result: dict[str, Any], name: str) -> bool:
    """Whether an implementation was measured without failure."""
    entry = result["implementations"].get(name)
    return entry is not None and "failed" not in entry["rounds"][-1]


def csv_table(result: dict[str, Any]) -> str:
    """Training comparison as CSV, with a row for each implementation and round."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "implementation", "round", "tokens_per_s", "step_ms", "peak_bytes"])
    for name, entry in result["implementations"].items():
        for number, measured in enumerate(entry["rounds"]):
            values = [measured.get(key, "") for key in ("tokens_per_s", "step_ms", "peak_bytes")]
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
