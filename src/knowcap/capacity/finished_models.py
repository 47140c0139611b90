"""R of single measurements, while the others of their study are still to be made."""

from __future__ import annotations

from pathlib import Path

from knowcap.artifacts import identity
from knowcap.capacity.labels import precision_label
from knowcap.capacity.measurement_files import MeasurementFiles
from knowcap.capacity.model_list import model_rows
from knowcap.capacity.table import ExperimentLabel, build_table
from knowcap.config import Precision, Run
from knowcap.config.study import Study


def ratio_text(study: Study, run: Run, precision: Precision) -> str:
    """Return R of a finished measurement, such as `R = 1.43 ± 0.02, as trained`.

    Raises
    ------
    UserError
        If a file of the measurement is missing or damaged.
    """
    losses = identity.losses_path(study, run, precision)
    measurement = MeasurementFiles(
        run=losses.parents[1],
        losses=losses,
        corpus=Path(study.results) / "corpora" / identity.corpus_name(run.corpus),
        experiments=(study.study,),
    )
    table = build_table([measurement], {study.study: ExperimentLabel((), "")})
    rows = model_rows(table)
    if not rows:
        return f"all replicates diverged, {precision_label(precision)}"
    spread = "" if rows[0]["num_seeds"] == 1 else f" \u00b1 {rows[0]['sd']:.2g}"
    return f"R = {rows[0]['capacity_ratio']:.3g}{spread}, {precision_label(precision)}"
