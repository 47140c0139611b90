"""The report of a study, and the README's table of verdicts.

The text of the page is the template ``report.html.jinja``. This module computes its values from the
table, the laws, the figures and the tagged comments of the source. The page is self-contained.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import xarray as xr
from tabulate import tabulate

from knowcap import __version__
from knowcap.artifacts import files, manifest
from knowcap.artifacts.durations import format_duration
from knowcap.capacity.diverged_replicates import diverged_replicates, diverged_sentence
from knowcap.capacity.laws.laws_dataset import LAWS_VARIABLES, format_estimate, iterate_verdicts
from knowcap.capacity.missing_measurements import missing_sentence
from knowcap.capacity.model_list import model_rows
from knowcap.capacity.source_tags import find_source_tags
from knowcap.capacity.table_columns import TABLE_VARIABLES

PACKAGE = Path(__file__).parents[1]

PAPER_MIN_PARAMS = 700_000
"""Models with fewer parameters are smaller than all models of the paper."""
# PAPER 4.1: the smallest model, GPT2-2-2, has 816,000 parameters with its vocabulary; other
# vocabularies may be a little smaller.

PAPER_MIN_PEOPLE = 10_000
"""Corpora with fewer people are smaller than all corpora of the paper."""
# PAPER 4.1: N from 10,000 to 10,000,000.

MAX_LISTED = 100
"""Lists of more models are folded."""


def write_report(
    table_path: Path,
    laws_path: Path,
    figures: Path,
    samples: Mapping[str, str],
    output: Path,
    rules: Sequence[str] = (),
) -> None:
    """Write the report as one self-contained HTML file.

    Parameters
    ----------
    table_path, laws_path, figures
        Files written by :mod:`~knowcap.capacity.table`, :mod:`~knowcap.capacity.laws` and
        :mod:`~knowcap.capacity.figures`.
    samples
        A biography of each corpus, by name of the corpus.
    output
        The HTML file to write.
    rules
        Sentences on the commit that fixed the rules of the verdicts
        (:func:`knowcap.capacity.rules_commit.rules_sentences`).
    """
    table = files.read_dataset(table_path, TABLE_VARIABLES)
    laws = files.read_dataset(laws_path, LAWS_VARIABLES)
    drawn = _figures(figures)
    models = model_rows(table)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "digits": _digits, "duration": format_duration}
    html = environment.get_template("report.html.jinja").render(
        version=__version__,
        missing=missing_sentence(table),
        diverged=diverged_replicates(table),
        diverged_sentence=diverged_sentence(table),
        scales=scale_rows(table, models),
        laws=[law for law in law_rows(laws) if law["verdict"] != "not run"],
        not_run=not_run_sentence(laws),
        rules=rules,
        figures=drawn,
        models=models,
        max_listed=MAX_LISTED,
        trained=list({model["run"]: model for model in models}.values()),
        samples=samples,
        source_tags=find_source_tags(PACKAGE),
    )
    files.write_text(output, html)


def verdict_table(laws: xr.Dataset) -> str:
    """Markdown table with one row per law and scale, and a sentence on laws without models."""
    rows = [row for row in law_rows(laws) if row["verdict"] != "not run"]
    has_scales = len({row["scale"] for row in rows}) > 1
    cells = [
        {
            "law": f"{row['law']}. {row['title']}" + (f", {row['scale']}" if has_scales else ""),
            "claim of the paper": row["claim"],
            "measured (95 % interval)": (
                f"{row['quantity']}: {row['measured']}; accepted {row['accepted']}"
            ),
            "verdict": f"**{row['verdict']}**",
            "what failed": row["failed"],
        }
        for row in rows
    ]
    table = tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)
    table = re.sub(r" +\|", " |", re.sub(r"-{3,}", "---", table))  # no padding of long cells
    return f"{table}\n\n{not_run_sentence(laws)}".strip()


def law_rows(laws: xr.Dataset) -> list[dict[str, Any]]:
    """One row per law and scale: claim, deciding quantity, verdict and what failed, in words."""
    rows = []
    for verdict in iterate_verdicts(laws):
        judgement, primary = verdict.judgement, verdict.primary
        primaries = [row for row in verdict.rows if row.primary]
        unit = f" {primary.quantity_units}" if primary.quantity_units else ""
        rows.append(
            {
                "law": judgement.law,
                "title": judgement.title,
                "scale": judgement.scale,
                "claim": judgement.claim,
                "quantity": primary.quantity,
                "num_primaries": len(primaries),
                "measured": measured_text(primary),
                "accepted": f"{primary.accepted}{unit}",
                "verdict": judgement.verdict,
                "failed": "" if judgement.verdict == "reproduced" else primary.explanation,
                "others": "" if len(primaries) == 1 else judgement.explanation,
                "rows": [row._asdict() | {"measured": measured_text(row)} for row in verdict.rows],
                "checks": [check._asdict() for check in verdict.checks],
                "facts": [fact.text for fact in verdict.facts],
            }
        )
    return rows


def measured_text(row: Any) -> str:
    """Text of an estimate in both scorings, such as `1.1 (1 to 1.2); in whole biographies 1.4`."""
    if np.isnan(row.estimate):
        return "not measured"
    text = format_estimate(row)
    if np.isnan(row.estimate_in_context) or row.estimate_in_context == row.estimate:
        return text
    interval = (
        ""
        if np.isnan(row.lower_in_context)
        else (f" ({row.lower_in_context:.3g} to {row.upper_in_context:.3g})")
    )
    return f"{text}; in whole biographies {row.estimate_in_context:.3g}{interval}"


def not_run_sentence(laws: xr.Dataset) -> str:
    """Sentence with the laws that no experiment informs, or informs without a measurement."""
    names = [
        f"{row['law']}. {row['title']}" + (f" ({row['scale']})" if row["scale"] else "")
        for row in law_rows(laws)
        if row["verdict"] == "not run"
    ]
    return f"Without models that inform them: {'; '.join(names)}." if names else ""


def update_readme(laws_path: Path, readme: Path) -> None:
    """Write the table of verdicts between the markers of the README.

    Raises
    ------
    UserError
        If the README is missing or does not have the markers once each and in order.
    """
    laws = files.read_dataset(laws_path, LAWS_VARIABLES)
    files.replace_between_markers(readme, "results", verdict_table(laws))


def scale_rows(table: xr.Dataset, models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per scale: numbers, sizes and cost of its models."""
    rows = []
    for scale in dict.fromkeys(table["scale"].values.tolist()):
        group = pd.DataFrame([model for model in models if scale in model["scales"]])
        if group.empty:
            continue
        # A run has a row for each of its precisions, but was trained once.
        trained = group.drop_duplicates("run")
        params, people = group["num_params"], group["num_people"]
        rows.append(
            {
                "name": scale,
                "num_models": len(trained),
                "precisions": list(dict.fromkeys(group["precision"])),
                "num_trainings": int(trained["num_replicates"].sum()),
                "params": (int(params.min()), int(params.max())),
                "people": (int(people.min()), int(people.max())),
                "exposures": sorted(set(group["exposures"]), reverse=True),
                "kinds": list(dict.fromkeys(group["kind"])),
                "seeds": (int(group["num_seeds"].min()), int(group["num_seeds"].max())),
                "train_s": float(trained["train_s"].sum(min_count=1)),
                "is_scale_model": bool(
                    params.min() < PAPER_MIN_PARAMS or people.min() < PAPER_MIN_PEOPLE
                ),
            }
        )
    return rows


def _figures(folder: Path) -> list[dict[str, str]]:
    """Figures in the order of ``figures.json``, each with its SVG as a data URI."""
    manifest.verify(folder)
    listed = files.read_json(folder / "figures.json")["figures"]
    return [
        figure
        | {
            "uri": "data:image/svg+xml;base64,"
            + base64.b64encode((folder / f"{figure['name']}.svg").read_bytes()).decode("ascii")
        }
        for figure in listed
    ]


def _count(number: float) -> str:
    """Text of a whole number with commas between thousands."""
    return f"{int(number):,}"


def _digits(number: float, digits: int = 3) -> str:
    """Text of a number with significant digits; a dash for NaN."""
    return "\u2013" if pd.isna(number) else f"{number:.{digits}g}"
