"""knowcap: how many bits of knowledge a language model stores.

The study is config/config.yaml, or the file given by --configfile. Cores, GPUs and clusters are set
by a profile (config/profiles) and do not affect results.

    snakemake -n             print what would be done
    snakemake -c2            do it
    snakemake -c1 partial    table, laws, figures and report of what exists so far

Another workflow can use these rules; paths are relative to its working directory:

    module knowcap:
        snakefile: "PATH/Snakefile"
        config: {"study_file": "my_study.yaml"}

    use rule * from knowcap as knowcap_*
"""


# The system that the locked environment is tested on. Jobs run in Snakemake's own environment,
# unless --software-deployment-method apptainer selects this container.
container: "docker://python:3.11-bookworm"


include: "rules/common.smk"
include: "rules/profile.smk"
include: "rules/corpus.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/table.smk"
include: "rules/laws.smk"
include: "rules/report.smk"
include: "rules/partial.smk"
include: "rules/benchmark.smk"


rule all:
    default_target: True
    input:
        all_files,
        STUDY_OUTPUTS,
        PUBLISHED,
    # Without a message Snakemake prints all inputs.
    message:
        "results of the study are in {RESULTS}/{STUDY.study}"
