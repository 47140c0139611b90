"""The report of a study as one HTML page that loads nothing else.

The text of the page is the template ``report.html.jinja``. This module computes its values from the
table, the laws, the figures, the loss curves and the tagged comments of the source. Equal inputs
give equal bytes. Without JavaScript the page has all tables and the figures as pictures.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from knowcap import __version__
from knowcap.artifacts import files, manifest
from knowcap.artifacts.durations import format_duration
from knowcap.capacity.diverged_replicates import diverged_replicates, diverged_sentence
from knowcap.capacity.laws.laws_dataset import LAWS_VARIABLES
from knowcap.capacity.missing_measurements import missing_sentence
from knowcap.capacity.model_list import model_rows
from knowcap.capacity.report.explorer import explorer_data
from knowcap.capacity.report.interval_rows import interval_rows
from knowcap.capacity.report.scale_rows import scale_rows
from knowcap.capacity.report.verdict_table import law_rows, not_run_sentence
from knowcap.capacity.source_tags import find_source_tags
from knowcap.capacity.table_columns import TABLE_VARIABLES

PACKAGE = Path(__file__).parents[2]

TEMPLATE = "report.html.jinja"
PARTS = ("verdicts.html.jinja", "models.html.jinja", "quantities.html.jinja", "terms.html.jinja")
"""Templates that the template includes. They are named here for the digest of the code."""

STYLES = ("report.css",)
SCRIPTS = ("theme.js", "explorer.js", "run_panel.js", "intervals.js", "start.js")

MAX_LISTED = 100
"""Lists of more models are folded."""


def write_report(
    table_path: Path,
    laws_path: Path,
    figures: Path,
    samples: Mapping[str, str],
    output: Path,
    rules: Sequence[str] = (),
    runs: Path | None = None,
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
    runs
        Folder of the runs, whose loss curves are shown. The page says which runs are not there.
    """
    table = files.read_dataset(table_path, TABLE_VARIABLES)
    laws = files.read_dataset(laws_path, LAWS_VARIABLES)
    models = [row | {"index": index} for index, row in enumerate(model_rows(table))]
    rows = [law for law in law_rows(laws) if law["verdict"] != "not run"]
    html = _environment().get_template(TEMPLATE).render(
        version=__version__,
        missing=missing_sentence(table),
        diverged=diverged_replicates(table),
        diverged_sentence=diverged_sentence(table),
        scales=scale_rows(table, models),
        laws=rows,
        not_run=not_run_sentence(laws),
        rules=rules,
        figures=_figures(figures),
        models=models,
        max_listed=MAX_LISTED,
        trained=list({model["run"]: model for model in models}.values()),
        samples=samples,
        source_tags=find_source_tags(PACKAGE),
        data=_json({
            "explorer": explorer_data(table, models, runs),
            "intervals": interval_rows(laws),
        }),
        style=_joined(STYLES),
        script=_joined(SCRIPTS),
        plotly=_compressed_plotly(),
    )  # fmt: skip
    files.write_text(output, html)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "digits": _digits, "duration": format_duration}
    return environment


def _joined(names: Sequence[str]) -> Markup:
    """Return the text of files beside this module, for a style or script element."""
    folder = Path(__file__).parent
    return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in names))


def _json(value: Any) -> Markup:
    """Return JSON for a script element, in which no text ends the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _compressed_plotly() -> str:
    """Return plotly.js as base64 of gzip, which browsers can read: 2.0 MB instead of 4.8."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii")


def _figures(folder: Path) -> list[dict[str, Any]]:
    """Figures in the order of ``figures.json``, with the SVG as a data URI and its size in CSS."""
    manifest.verify(folder)
    return [
        figure
        | {"uri": _data_uri(folder / f"{figure['name']}.svg")}
        | dict(
            zip(("width", "height"), [round(96 * size) for size in figure["size_in"]], strict=True)
        )
        for figure in files.read_json(folder / "figures.json")["figures"]
    ]


def _data_uri(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode("ascii")


def _count(number: float) -> str:
    """Text of a whole number with commas between thousands."""
    return f"{int(number):,}"


def _digits(number: float, digits: int = 3) -> str:
    """Text of a number with significant digits; a dash for NaN."""
    return "\u2013" if pd.isna(number) else f"{number:.{digits}g}"
