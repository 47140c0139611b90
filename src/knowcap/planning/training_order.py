"""Order in which the runs of a study are trained."""

from __future__ import annotations

from knowcap.config import Run
from knowcap.config.study import Study
from knowcap.planning.cost import relative_time


def training_priorities(study: Study) -> dict[Run, int]:
    """Return the priority of each run; Snakemake starts higher ones first.

    It is the relative time of the run (:func:`knowcap.planning.cost.relative_time`), or, if the
    study's `training_order` is `listed`, the number of runs from this one to the last.
    """
    runs = study.runs()
    if study.training_order == "listed":
        return {run: len(runs) - index for index, run in enumerate(runs)}
    return {run: int(relative_time(run)) for run in runs}
