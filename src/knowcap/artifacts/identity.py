"""Names of corpora, runs, measurements and study results: a readable slug and a digest.

A digest covers the canonical JSON of the record, the names of the inputs and the code of the stage
(:mod:`knowcap.artifacts.code_digest`). Equal records share one result. An edit of the record or of
the code gives a new name; reverting the edit gives the old name and finds the old result.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from knowcap.artifacts.code_digest import PACKAGE, Stage, code_digest, digest
from knowcap.config import PRECISION_STAGES, Corpus, Evaluation, Precision, Run
from knowcap.config.study import Study

_TAGGED = re.compile(r"#\s*(?:PAPER|ASSUME|DEVIATES)\b.*(?:\n\s*#.*)*")
"""A tagged comment and the lines on which it continues."""


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def record_json(record: Corpus | Run | Evaluation) -> str:
    """Return canonical JSON of a record without the fields that have their default value.

    A field that is added later with a default does not change the names of existing results.
    """
    return canonical_json(record.model_dump(mode="json", exclude_defaults=True))


@cache
def _file_digest(path: Path) -> str:
    return digest(path.name, path.read_text(encoding="utf-8"))


def _data_files(corpus: Corpus) -> list[Path]:
    """Return the files of names and sentence templates that a corpus uses."""
    folder = PACKAGE / "data"
    if corpus.knowledge.kind == "table":
        return []  # its file is in the record, as a digest
    if corpus.knowledge.kind != "bioD":
        texts = "bior_phrases" if _is_by_grammar(corpus) else "bios_templates"
        return sorted([*folder.glob("pools/*.txt"), *folder.glob(f"{texts}/*.txt")])
    return (
        sorted(folder.glob("pools/*_names.txt")) if corpus.knowledge.layout == "sentences" else []
    )


def _is_by_grammar(corpus: Corpus) -> bool:
    return corpus.knowledge.kind == "bioR" and corpus.knowledge.rewriter == "grammar"


def _is_by_language_model(corpus: Corpus) -> bool:
    return corpus.knowledge.kind == "bioR" and corpus.knowledge.rewriter != "grammar"


@cache
def corpus_name(corpus: Corpus) -> str:
    """Return the name of a corpus' folder in `results/corpora`."""
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
    """Return the name of a run's folder in `results/runs`."""
    corpus = run.corpus.knowledge
    slug = f"{run.architecture.label}-{corpus.kind}-N{corpus.num_people}"
    identity = digest(record_json(run), corpus_name(run.corpus), code_digest("train"))
    return f"{slug}-E{run.optimization.exposures}-{identity}"


def measurement_name(run: Run, precision: Precision, evaluation: Evaluation) -> str:
    """Return the name of a measurement's folder in its run's folder."""
    code = code_digest(PRECISION_STAGES[precision])
    identity = digest(run_name(run), precision, record_json(evaluation), code)
    return f"{precision}-{identity}"


def losses_path(study: Study, run: Run, precision: Precision) -> Path:
    """Return the path of a measurement's losses in a study's results."""
    folder = Path(study.results) / "runs" / run_name(run)
    return folder / measurement_name(run, precision, study.evaluation) / "losses.nc"


def study_names(study: Study) -> dict[Stage, str]:
    """Return the digests in the names of a study's table, laws, figures and report.

    The digest of a stage covers those of the stages before it. The table's digest covers the laws
    and scales of experiments, which determine the measurements that are compared.
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
    previous = digest(study.study, canonical_json(plan))
    stages: tuple[Stage, ...] = ("table", "laws", "figures", "report")
    for stage in stages:
        shown = [_tagged_comments()] if stage == "report" else []
        previous = names[stage] = digest(previous, code_digest(stage), *shown)
    return names


@cache
def _tagged_comments() -> str:
    """Return the PAPER, ASSUME and DEVIATES comments of the package, which the report lists.

    Digests of code leave comments out. Lines and files of the comments are left out here, as the
    report does not depend on them.
    """
    found = {
        "\n".join(line.strip() for line in comment[0].splitlines())
        for path in PACKAGE.rglob("*.py")
        for comment in _TAGGED.finditer(path.read_text(encoding="utf-8"))
    }
    return "\n\n".join(sorted(found))
