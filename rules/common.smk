"""The study, and the path of everything it asks for.

A path is the identity of what it holds (knowcap.artifacts.identity): it changes with the question, with
what is read and with the code that makes it, and with nothing else. That a file has its name is
what makes it current. So Snakemake is to make what is missing and nothing else: times of files,
and its own memory of code and parameters, have no say.
"""

import atexit
import gc
import os
import sys
from pathlib import Path

from knowcap.artifacts import identity
from knowcap.planning.cost import relative_time
from knowcap.errors import UserError
from knowcap.config.study import load_study

# Snakemake's objects live to the end of a plan. Python looks through them for garbage in vain, also
# when it leaves.
gc.set_threshold(1_000_000, 100, 100)
atexit.register(gc.freeze)

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
PRECISIONS = {run: [] for run in RUNS}
for (run, measurement), precision in MEASUREMENTS.items():
    PRECISIONS[run].append(precision)
STAGES = identity.study_names(STUDY)

CORPUS = f"{RESULTS}/corpora/{{corpus}}"
RUN = f"{RESULTS}/runs/{{run}}"
SCRATCH = f"{RESULTS}/scratch/{{run}}"
TABLE = f"{STORE}/table-{STAGES['table']}"
LAWS = f"{STORE}/laws-{STAGES['laws']}"
FIGURES = f"{STORE}/figures-{STAGES['figures']}"
REPORT = f"{STORE}/report-{STAGES['report']}"

OF_CORPUS = [f"{CORPUS}/{name}" for name in ("corpus.json", "tokenizer.json")]
OF_REWRITTEN = [*OF_CORPUS, f"{CORPUS}/versions.bin", f"{CORPUS}/versions.idx"]
REWRITTEN = [name for name, corpus in CORPORA.items() if corpus.knowledge.kind == "bioR"]
OF_RUN = [
    f"{RUN}/{name}"
    for name in (
        "run.json",
        "model.pt",
        "metrics.jsonl",
        "timing.json",
        "provenance.json",
        "DONE",
    )
]
OF_TABLE = [f"{TABLE}/capacity.nc", f"{TABLE}/index.csv"]
OF_LAWS = [f"{LAWS}/laws.nc", f"{LAWS}/laws.md"]

ALL_LOSSES = [f"{RESULTS}/runs/{run}/{name}/losses.nc" for run, name in MEASUREMENTS]
OF_STUDY = [*OF_TABLE, *OF_LAWS, FIGURES, f"{REPORT}/report.html"]
PUBLISHED = f"{RESULTS}/{STUDY.study}/.published-{STAGES['report']}"


# Corpora take a moment and trainings wait for them; the longest of these must not come last.
BEFORE_ANY_TRAINING = 10**30


def training_time(wildcards):
    """How long a training lasts, relative to others: the longest begin first."""
    return int(relative_time(RUNS[wildcards.run]))


wildcard_constraints:
    corpus="[^/]+",
    run="[^/]+",
    measurement="[^/]+",
