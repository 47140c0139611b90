"""What jobs wait for: whole folders, and nothing once they have made what they are to make."""

import itertools
from pathlib import Path

from snakemake.settings.enums import RerunTrigger

# What appears last of a corpus and of a run. Whoever reads one waits for that, and for nothing else:
# what is lost of it is made again as `all` asks for it, before the readers as they wait for its job.
WHOLE_CORPUS = f"{CORPUS}/corpus.json"
WHOLE_RUN = f"{RUN}/DONE"


def unless_made(outputs, inputs):
    """What a job needs, or nothing once its outputs are there.

    A file that is lost later is made again, but not what was made of it: it will be the same.
    """

    def needed(wildcards):
        # Snakemake has its settings only now, after the rules are read and before it asks what to
        # do. A job that was made has no inputs, which it would take for a reason to make it again.
        settings = workflow.dag_settings
        settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
        forced = settings.forceall or settings.forcerun
        made = all(Path(path.format(**wildcards)).exists() for path in outputs)
        return [] if made and not forced else inputs(wildcards)

    return ancient(needed)


def whole_corpus(wildcards):
    """The corpus that a run reads."""
    return [WHOLE_CORPUS.format(corpus=corpus_of(wildcards))]


def whole_run(wildcards):
    """A run, and the corpus it reads."""
    return [*whole_corpus(wildcards), WHOLE_RUN.format(run=wildcards.run)]


def every_corpus_run_and_measurement(wildcards):
    """All that the study's own pages are made of."""
    corpora = [
        whole_or_all(WHOLE_CORPUS, OF_REWRITTEN if name in REWRITTEN else OF_CORPUS, corpus=name)
        for name in CORPORA
    ]
    runs = [whole_or_all(WHOLE_RUN, OF_RUN, run=name) for name in RUNS]
    return [*itertools.chain(*corpora, *runs), *ALL_LOSSES]


def whole_or_all(last, paths, **wildcards):
    """What appears last in a folder; once that is there every file, as any can be lost."""
    last = last.format(**wildcards)
    return [path.format(**wildcards) for path in paths] if Path(last).exists() else [last]


def whole_study(wildcards):
    """Every measurement of the study, with its run and its corpus."""
    corpora = expand(WHOLE_CORPUS, corpus=CORPORA)
    return [*corpora, *expand(WHOLE_RUN, run=RUNS), *ALL_LOSSES]


def corpus_of(wildcards):
    """Folder name of the corpus that a run reads."""
    return identity.corpus_name(RUNS[wildcards.run].corpus)
