"""The study, and the path of everything it asks for.

A path is the identity of what it holds (knowcap.identity): it changes with the question, with
what is read and with the code that makes it, and with nothing else. So inputs are `ancient`: that
a file has its name is what makes it current, whenever it was written.
"""

import os
import sys
from pathlib import Path

from knowcap import identity
from knowcap.errors import UserError
from knowcap.study import load_study

STUDY_FILE = Path([*workflow.overwrite_configfiles, "config/config.yaml"][0])


def read_study():
    """The study, or one line that says what is wrong with it and exit code 2."""
    try:
        return load_study(STUDY_FILE)
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(2)


STUDY = read_study()
RESULTS = STUDY.results
LOGS = f"{RESULTS}/logs"
STORE = f"{RESULTS}/studies/{STUDY.study}"

CORPORA = {identity.corpus_name(run.corpus): run.corpus for run in STUDY.runs()}
RUNS = {identity.run_name(run): run for run in STUDY.runs()}
MEASUREMENTS = {
    (identity.run_name(run), identity.measurement_name(run, precision, STUDY.evaluation)): precision
    for run, precision in STUDY.measurements()
}
STAGES = identity.study_names(STUDY)

CORPUS_FILES = [
    f"{RESULTS}/corpora/{corpus}/{name}"
    for corpus in CORPORA
    for name in ("corpus.json", "tokenizer.json")
]
RUN_FILES = [
    f"{RESULTS}/runs/{run}/{name}"
    for run in RUNS
    for name in (
        "run.json",
        "model.pt",
        "metrics.jsonl",
        "timing.json",
        "provenance.json",
        "DONE",
    )
]
LOSSES = [f"{RESULTS}/runs/{run}/{name}/losses.nc" for run, name in MEASUREMENTS]
STUDY_FILES = [
    f"{STORE}/table-{STAGES['table']}/capacity.nc",
    f"{STORE}/laws-{STAGES['laws']}/laws.nc",
    f"{STORE}/figures-{STAGES['figures']}",
    f"{STORE}/report-{STAGES['report']}/report.html",
]
PUBLISHED = f"{RESULTS}/{STUDY.study}/.published-{STAGES['report']}"


def corpus_of(wildcards):
    """Folder name of the corpus that a run reads."""
    return identity.corpus_name(RUNS[wildcards.run].corpus)


def biographies_to_read(wildcards):
    """How long a training lasts, relative to others: the longest begin first."""
    run = RUNS[wildcards.run]
    return run.num_readings * len(run.replicates.pairs)


wildcard_constraints:
    corpus="[^/]+",
    run="[^/]+",
    measurement="[^/]+",
