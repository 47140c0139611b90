"""knowcap: from invented people to the bits that a language model stores of them.

The study is config/config.yaml, or the one given by --configfile. How to run it (cores, GPUs, a
cluster) is a profile's matter and moves no number.
"""

include: "rules/common.smk"
include: "rules/corpus.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/laws.smk"
include: "rules/report.smk"


rule all:
    input:
        CORPUS_FILES,
        RUN_FILES,
        LOSSES,
        STUDY_FILES,
        PUBLISHED,
    default_target: True
