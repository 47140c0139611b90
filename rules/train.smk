"""Training: a run's replicates, side by side as one stacked model.

Takes    the record of a run and its corpus
Gives    runs/{run}/...                    weights, metrics, timing, provenance; DONE last

A training resumes from scratch/{run}, which is nobody's output: Snakemake deletes the outputs of
a job that fails. Within a time limit it leaves in time with exit code 75, to be started again.
Retries belong to a profile, never to this rule.
"""


rule train:
    input:
        unless_made(OF_RUN, corpus_files),
    output:
        replaced(OF_RUN),
    log:
        f"{LOGS}/train/{{run}}.log",
    priority: training_time
    threads: 1
    params:
        record=lambda wildcards: identity.record_json(RUNS[wildcards.run]),
        corpus=lambda wildcards: CORPUS.format(corpus=corpus_of(wildcards)),
        folder=RUN,
        scratch=f"{RESULTS}/scratch/{{run}}",
        time_budget=time_budget,
    message:
        "train {wildcards.run}"
    shell:
        "python -m knowcap train --record {params.record:q} --corpus {params.corpus:q}"
        " --output {params.folder:q} --scratch {params.scratch:q} --threads {threads}"
        " {params.time_budget} > {log:q} 2>&1"
