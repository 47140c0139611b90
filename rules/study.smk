"""The study, and the paths of its artefacts.

The path of an artefact is its identity (knowcap.artifacts.identity): it changes with the study,
with the code that makes the artefact and with what it is made of, and with nothing else. So
Snakemake only has to make what is missing; it compares no times, code or parameters.
"""

import atexit
import gc
import os
import shlex
import shutil
import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

import knowcap
from knowcap.artifacts import identity
from knowcap.artifacts.shared_lock import is_alone
from knowcap.config.study import load_study
from knowcap.errors import UserError

# Image of container/knowcap.def; `container:` in workflow/Snakefile has it, too.
IMAGE = "container/knowcap.sif"


def python_command():
    """Command that starts Python in jobs: that of Snakemake, or `python` of the container.

    The container has libraries only; the package is that of Snakemake, from its checkout.
    """
    if DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method:
        return shlex.quote(sys.executable)
    source = Path(knowcap.__file__).parents[1]
    if source.name == "site-packages":
        stop(
            UserError("--sdm apptainer: needs the package in a checkout: pip install --editable .")
        )
    if not Path(IMAGE).exists():
        build = f"apptainer build {IMAGE} container/knowcap.def"
        stop(UserError(f"{IMAGE}: missing; build it once: {build}"))
    return f"PYTHONPATH={shlex.quote(str(source))} python"


def collect_less_garbage():
    """Make garbage collection rare, as the jobs of a plan live until its end.

    Measured with config/paper.yaml, 3300 jobs: a dry run takes 5 s instead of 8 s.
    """
    gc.set_threshold(1_000_000, 100, 100)
    atexit.register(gc.freeze)


def stop(error):
    """Print one line and exit with code 2, where Snakemake would print a traceback."""
    print(error, file=sys.stderr, flush=True)
    os._exit(2)


def is_module():
    """Whether another workflow uses this one by a `module` statement."""
    return not workflow.modifier.is_main_snakefile()


def find_study_file():
    """The study file: that of --configfile, or `study_file` of a module's config, or the default.

    A workflow that snakedeploy makes passes the content of its `configfile` to this module: the
    study file is then that configfile. The default is config/config.yaml in the working directory,
    or else beside the Snakefile.
    """
    if is_module():
        given = config.get("study_file")
        if "experiments" in config:
            given = next(reversed(workflow.overwrite_configfiles or workflow.configfiles), None)
        elif config and given is None:
            raise UserError("config: study_file: missing; a module has no other key")
    else:
        refuse_ignored_options()
        given = next(iter(workflow.overwrite_configfiles), None)
    repository = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
    default = Path("config", "config.yaml")
    return Path(given or (default if default.exists() else repository / default))


def refuse_ignored_options():
    """Raise a UserError for a --config and for a second --configfile, which would change nothing."""
    if workflow.config_settings.config:
        key = next(iter(workflow.config_settings.config))
        raise UserError(f"--config: {key}: not supported; edit the study file (--configfile)")
    # Of several --configfile options Snakemake keeps the last one only.
    options = sum(argument.startswith("--configfile") for argument in sys.argv)
    if max(options, len(workflow.overwrite_configfiles)) > 1:
        raise UserError("--configfile: one study file is allowed, not several")


def read_study():
    """The study file and the study; a mistake is one line and exit code 2."""
    try:
        path = find_study_file()
        return path, load_study(path)
    except UserError as error:
        stop(error)


def remove_stale_locks():
    """Remove the locks of a killed Snakemake, unless another one runs in this folder."""
    folder = Path(".snakemake")
    if workflow.is_main_process and not is_module() and is_alone(folder / "knowcap.lock"):
        shutil.rmtree(folder / "locks", ignore_errors=True)


PYTHON = python_command()
KNOWCAP = f"{PYTHON} -m knowcap"
collect_less_garbage()
remove_stale_locks()
STUDY_FILE, STUDY = read_study()
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

# The last file written to a corpus and to a run, with the digests of the others: jobs that read a
# folder have it as their input.
CORPUS_DONE = f"{CORPUS}/DONE"
RUN_DONE = f"{RUN}/DONE"

CORPUS_FILES = [CORPUS_DONE, f"{CORPUS}/corpus.json", f"{CORPUS}/tokenizer.json"]
REWRITTEN_FILES = [*CORPUS_FILES, f"{CORPUS}/versions.bin", f"{CORPUS}/versions.idx"]
REWRITTEN = [name for name, corpus in CORPORA.items() if corpus.knowledge.kind == "bioR"]
RUN_FILES = [
    f"{RUN}/run.json",
    f"{RUN}/model.pt",
    f"{RUN}/metrics.jsonl",
    f"{RUN}/timing.json",
    f"{RUN}/provenance.json",
    RUN_DONE,
]
ALL_LOSSES = [f"{RESULTS}/runs/{run}/{name}/losses.nc" for run, name in MEASUREMENTS]
TABLE_FILES = [f"{TABLE}/capacity.nc", f"{TABLE}/index.csv"]
LAWS_FILES = [f"{LAWS}/laws.nc", f"{LAWS}/laws.md"]
STUDY_OUTPUTS = [*TABLE_FILES, *LAWS_FILES, FIGURES, f"{REPORT}/report.html"]
PUBLISHED = f"{RESULTS}/{STUDY.study}/.published-{STAGES['report']}"
