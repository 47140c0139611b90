"""The report of a study, and the README's table of verdicts.

The text of the page is the template ``report.html.jinja``. This module computes its values from the
table, the laws, the figures and the tagged comments of the source. The page is self-contained.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import xarray as xr
from tabulate import tabulate

from knowcap import __version__
from knowcap.artifacts import files, manifest
from knowcap.artifacts.durations import format_duration
from knowcap.capacity.diverged_replicates import diverged_replicates, diverged_sentence
from knowcap.capacity.laws.laws_dataset import format_estimate, iterate_verdicts
from knowcap.capacity.missing_measurements import missing_sentence
from knowcap.capacity.source_tags import find_source_tags
from knowcap.capacity.table import replicates

PACKAGE = Path(__file__).parents[1]

PAPER_MIN_PARAMS = 700_000
"""Models with fewer parameters are smaller than all models of the paper."""
# PAPER 4.1: the smallest model, GPT2-2-2, has 816,000 parameters with its vocabulary; other
# vocabularies may be a little smaller.

PAPER_MIN_PEOPLE = 10_000
"""Corpora with fewer people are smaller than all corpora of the paper."""
# PAPER 4.1: N from 10,000 to 10,000,000.


def write_report(
    table_path: Path,
    laws_path: Path,
    figures: Path,
    samples: Mapping[str, str],
    output: Path,
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
    """
    table, laws = files.read_dataset(table_path), files.read_dataset(laws_path)
    runs = run_rows(table)
    rows = _records(laws, "row")
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
        scales=scale_rows(table, runs),
        laws=[
            law | {"rows": [row for row in rows if _is_row_of(row, law)], "primary": primary}
            for law, primary in zip(
                _records(laws, "judgement", prefix="judged_"),
                _deciding_rows(rows, laws),
                strict=True,
            )
        ],
        figures=_figures(figures),
        runs=runs,
        trained=list({run["run"]: run for run in runs}.values()),
        samples=samples,
        source_tags=find_source_tags(PACKAGE),
    )
    files.write_text(output, html)


def verdict_table(laws: xr.Dataset) -> str:
    """Markdown table of verdicts: one row per law and scale, with the quantity that decides."""
    header = ["law", "quantity", "paper", "measured (95 % interval)", "scale", "verdict"]
    rows = []
    for verdict in iterate_verdicts(laws):
        judgement, primary = verdict.judgement, verdict.primary
        units = f" {primary.quantity_units}" if primary.quantity_units else ""
        rows.append(
            [
                f"{judgement.law}. {judgement.title}",
                primary.quantity,
                f"{primary.claim}{units}",
                format_estimate(primary),
                judgement.scale,
                f"**{judgement.verdict}**",
            ]
        )
    return str(tabulate(rows, header, tablefmt="github", disable_numparse=True))


def update_readme(laws_path: Path, readme: Path) -> None:
    """Write the table of verdicts between the markers of the README.

    Raises
    ------
    UserError
        If the README is missing or does not have the markers once each and in order.
    """
    files.replace_between_markers(readme, "results", verdict_table(files.read_dataset(laws_path)))


def run_rows(table: xr.Dataset) -> list[dict[str, Any]]:
    """One row per measurement, with R at the best learning rate."""
    rows: list[dict[str, Any]] = []
    scales = table["scale"].values
    members = dict(zip(table["measurement"].values, table["member"].values.T, strict=True))
    for measurement, group in replicates(table).groupby("measurement", sort=False):
        means = group.groupby("lr")["capacity_ratio"].mean()
        best = group[group["lr"] == means.idxmax()]
        ratios = {
            name: best[name].mean()
            for name in ("capacity_ratio", "capacity_ratio_strict", "capacity_ratio_in_context")
        }
        rows.append(
            {str(name): value for name, value in group.iloc[0].items()}
            | ratios
            | {
                "lr": means.idxmax(),
                "num_lr": len(means),
                "num_seeds": len(best),
                "sd": best["capacity_ratio"].std(ddof=1),
                "share": ratios["capacity_ratio"] / best["max_capacity_ratio"].iloc[0],
                "all_tokens": int(group["num_tokens"].sum()),
                "num_replicates": len(group),
                "scales": list(dict.fromkeys(scales[members[measurement]].tolist())),
            }
        )
    return rows


def scale_rows(table: xr.Dataset, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per scale: numbers, sizes and cost of its models."""
    rows = []
    for scale in dict.fromkeys(table["scale"].values.tolist()):
        group = pd.DataFrame([run for run in runs if scale in run["scales"]])
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


def _is_row_of(row: dict[str, Any], law: dict[str, Any]) -> bool:
    return bool(row["law"] == law["law"] and row["scale"] == law["scale"])


def _deciding_rows(rows: list[dict[str, Any]], laws: xr.Dataset) -> list[dict[str, Any]]:
    """Row of the primary quantity that decides on each law."""
    return [
        next(
            row
            for row in rows
            if _is_row_of(row, law) and row["quantity"] == law["quantity"] and not row["subset"]
        )
        for law in _records(laws, "judgement", prefix="judged_")
    ]


def _records(laws: xr.Dataset, dim: str, prefix: str = "") -> list[dict[str, Any]]:
    """Rows along a dimension; rows with an estimate also have its text as ``measured``."""
    columns = [name for name, variable in laws.data_vars.items() if variable.dims == (dim,)]
    frame = laws[columns].to_dataframe().rename(columns=lambda name: name.removeprefix(prefix))
    if "estimate" in frame:
        frame["measured"] = [format_estimate(row) for row in frame.itertuples()]
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


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
