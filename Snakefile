"""knowcap: from invented people to the bits that a language model stores of them.

The study is config/config.yaml, or the one given by --configfile. How to run it (cores, GPUs, a
cluster) is a profile's matter and moves no number.
"""


# The system that the locked environment is tested on. Jobs run in the environment that Snakemake
# was started in; they enter a container only with --software-deployment-method apptainer.
container: "docker://python:3.11-bookworm"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/cluster.smk"
include: "rules/processes.smk"
include: "rules/corpus.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/laws.smk"
include: "rules/report.smk"
include: "rules/benchmark.smk"


rule all:
    default_target: True
    input:
        every_corpus_run_and_measurement,
        OF_STUDY,
        PUBLISHED,
