"""Functions that rules use."""

import itertools

from snakemake.settings.enums import RerunTrigger

from knowcap.planning.training_order import training_priorities


wildcard_constraints:
    corpus="[^/]+",
    run="[^/]+",
    measurement="[^/]+",


# Priorities. Corpora take seconds and trainings need them.
BEFORE_TRAININGS = 10**30
TRAINING_PRIORITIES = training_priorities(STUDY)


def training_priority(wildcards):
    """Priority of a training, by the training order of the study."""
    return TRAINING_PRIORITIES[RUNS[wildcards.run]]


def unless_made(outputs, inputs):
    """Input function of a rule: `inputs`, or nothing if the outputs exist.

    A lost file is made again; files made from it are not, as they would be the same.
    """

    def needed(wildcards):
        take_outputs_as_they_are()
        limit_memory()
        settings = workflow.dag_settings
        forced = settings.forceall or settings.forcerun
        made = all(Path(path.format(**wildcards)).exists() for path in outputs)
        return [] if made and not forced else inputs(wildcards)

    return ancient(needed)


def take_outputs_as_they_are():
    """Have Snakemake neither make nor delete outputs for other reasons than that one is missing.

    Every output appears when it is complete, and its path is its identity. So outputs whose job was
    killed are complete, outputs of a failed job stay, and changed inputs rebuild nothing. These
    settings apply to a workflow that uses this one as a module, too. They exist after the rules are
    read, so input functions change them.
    """
    workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
    workflow.dag.ignore_incomplete = True
    if workflow.execution_settings is not None:  # None in commands that run no job
        workflow.execution_settings.keep_incomplete = True


def kept(outputs):
    """Outputs that Snakemake does not delete before it starts their job.

    Another process may have made them since the plan: a job that outlived a killed Snakemake, or
    another checkout with the same results. Commands keep what is complete and replace files whole.
    """
    return update(outputs)


def corpus_name(wildcards):
    """Folder name of the corpus of a run."""
    return identity.corpus_name(RUNS[wildcards.run].corpus)


def table_option(wildcards):
    """Command line option of a corpus for the file of its table; empty for other kinds."""
    file = getattr(CORPORA[wildcards.corpus].knowledge, "file", None)
    return f"--table {shlex.quote(file)}" if file else ""


def corpus_done(wildcards):
    """The corpus of a run."""
    return [CORPUS_DONE.format(corpus=corpus_name(wildcards))]


def run_done(wildcards):
    """A run and its corpus."""
    return [*corpus_done(wildcards), RUN_DONE.format(run=wildcards.run)]


def study_done(wildcards):
    """Every measurement, run and corpus of the study."""
    return [*expand(CORPUS_DONE, corpus=CORPORA), *expand(RUN_DONE, run=RUNS), *ALL_LOSSES]


def report_inputs(wildcards):
    """Table, laws, figures, and the runs, whose loss curves the report shows."""
    return [*TABLE_FILES, *LAWS_FILES, FIGURES, *expand(RUN_DONE, run=RUNS)]


def all_files(wildcards):
    """Every file of every corpus, run and measurement: those that were lost are made again."""
    take_outputs_as_they_are()
    limit_memory()
    corpora = [
        files_of(REWRITTEN_FILES if name in REWRITTEN else CORPUS_FILES, CORPUS_DONE, corpus=name)
        for name in CORPORA
    ]
    runs = [files_of(RUN_FILES, RUN_DONE, run=name) for name in RUNS]
    return [*itertools.chain(*corpora, *runs), *ALL_LOSSES]


def files_of(paths, done, **wildcards):
    """The files of a folder; before it is done only the last one, which keeps plans small."""
    done = done.format(**wildcards)
    return [path.format(**wildcards) for path in paths] if Path(done).exists() else [done]
