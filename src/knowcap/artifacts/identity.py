"""The names of artefacts: a readable slug and a digest of everything that affects the numbers.

A digest covers the canonical JSON of the record, the names of what is read and the code of the
stage (:mod:`knowcap.artifacts.code_digest`). So equal questions share one artefact, an edit of the
question or of the code gives a new name, and taking the edit back finds the old artefact again.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from knowcap.artifacts.code_digest import PACKAGE, Stage, code_digest, digest
from knowcap.config import PRECISION_STAGES, Corpus, Evaluation, Precision, Run
from knowcap.config.study import Study


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def record_json(record: Corpus | Run | Evaluation) -> str:
    """Canonical JSON of a record without fields at their default, so a new one renames nothing."""
    return canonical_json(record.model_dump(mode="json", exclude_defaults=True))


@cache
def _file_digest(path: Path) -> str:
    return digest(path.name, path.read_text(encoding="utf-8"))


def _data_files(corpus: Corpus) -> list[Path]:
    """Pools and templates a corpus is made of."""
    folder = PACKAGE / "data"
    if corpus.knowledge.kind != "bioD":
        wording = "phrases" if _is_by_grammar(corpus) else "templates"
        return sorted([*folder.glob("pools/*.txt"), *folder.glob(f"{wording}/*.txt")])
    return (
        sorted(folder.glob("pools/*_names.txt")) if corpus.knowledge.layout == "sentences" else []
    )


def _is_by_grammar(corpus: Corpus) -> bool:
    return corpus.knowledge.kind == "bioR" and corpus.knowledge.rewriter == "grammar"


def _is_by_language_model(corpus: Corpus) -> bool:
    return corpus.knowledge.kind == "bioR" and corpus.knowledge.rewriter != "grammar"


@cache
def corpus_name(corpus: Corpus) -> str:
    """Folder of a corpus below `results/corpora`."""
    knowledge = corpus.knowledge
    identity = digest(
        record_json(corpus),
        code_digest("corpus"),
        *([code_digest("rewrite")] if _is_by_language_model(corpus) else []),
        *(_file_digest(path) for path in _data_files(corpus)),
    )
    return f"{knowledge.kind}-N{knowledge.num_people}-{identity}"


@cache
def run_name(run: Run) -> str:
    """Folder of a run below `results/runs`."""
    corpus = run.corpus.knowledge
    slug = f"{run.architecture.label}-{corpus.kind}-N{corpus.num_people}"
    identity = digest(record_json(run), corpus_name(run.corpus), code_digest("train"))
    return f"{slug}-E{run.optimization.exposures}-{identity}"


def measurement_name(run: Run, precision: Precision, evaluation: Evaluation) -> str:
    """Folder of a measurement below its run's."""
    code = code_digest(PRECISION_STAGES[precision])
    identity = digest(run_name(run), precision, record_json(evaluation), code)
    return f"{precision}-{identity}"


def losses_path(study: Study, run: Run, precision: Precision) -> Path:
    """Where a study's results have the losses of a measurement."""
    folder = Path(study.results) / "runs" / run_name(run)
    return folder / measurement_name(run, precision, study.evaluation) / "losses.nc"


def study_names(study: Study) -> dict[Stage, str]:
    """Digests that name what a study makes of its measurements, stage by stage.

    A stage's name covers the names of all stages before it. Laws and scales are in the table's,
    as they say which measurements are read together.
    """
    plan = {
        name: {
            "laws": experiment.laws,
            "scale": experiment.scale,
            "measurements": [
                [run_name(run), measurement_name(run, precision, study.evaluation)]
                for run in experiment.runs
                for precision in experiment.precisions
            ],
        }
        for name, experiment in study.experiments.items()
    }
    names: dict[Stage, str] = {}
    before = digest(study.study, canonical_json(plan))
    stages: tuple[Stage, ...] = ("table", "laws", "figures", "report")
    for stage in stages:
        before = names[stage] = digest(before, code_digest(stage))
    return names
