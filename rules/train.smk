"""Training: a run's replicates, side by side as one stacked model.

Takes    the record of a run and its corpus
Gives    runs/{run}/...                    weights, metrics, timing, provenance; DONE last

A training resumes from scratch/{run}, which is nobody's output: Snakemake deletes the outputs of
a job that fails. Retries belong to a profile, never to this rule.

One process trains unless a profile gives `nodes` and `gpu` (of all of them), or `processes` (of a
node without GPUs); see config/README.md. On several nodes it also sets `tasks` to their number and
`mpi` to srun, so that the command itself starts the steps.
"""


rule train:
    input:
        unless_made(OF_RUN, corpus_files),
    output:
        OF_RUN,
    log:
        f"{LOGS}/train/{{run}}.log",
    priority: biographies_to_read
    threads: 1
    resources:
        nodes=1,
        tasks=1,
        tasks_per_gpu=0,
        gpu=0,
        mpi="",
        processes=1,
        layout="",
    params:
        record=lambda wildcards: identity.record_json(RUNS[wildcards.run]),
        corpus=lambda wildcards: CORPUS.format(corpus=corpus_of(wildcards)),
        folder=RUN,
        scratch=f"{RESULTS}/scratch/{{run}}",
    message:
        "train {wildcards.run}"
    shell:
        "python -m knowcap train --record {params.record:q} --corpus {params.corpus:q}"
        " --output {params.folder:q} --scratch {params.scratch:q} --threads {threads}"
        " --nodes {resources.nodes} --processes {resources.processes} --gpus {resources.gpu}"
        " {resources.layout}"
        " > {log:q} 2>&1"
