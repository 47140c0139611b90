"""Training: a run's replicates, side by side as one stacked model.

Takes    the record of a run and its corpus
Gives    runs/{run}/...                    weights, metrics, timing, provenance; DONE last
         scratch/{run}/answers/...         to what the evaluation will ask, while it is at hand

A training resumes from scratch/{run}, which is nobody's output: Snakemake deletes the outputs of
a job that fails. Within a time limit it leaves in time with exit code 75, to be started again.
Retries belong to a profile, never to this rule.

One process trains unless a profile gives more: `gpu` GPUs, or `processes` on each of its `nodes`;
several nodes also want `tasks`, their number, and `mpi: srun`. docs/parallel.md tells the rest, and
rules/processes.smk makes options of it.
"""


rule train:
    input:
        unless_made(OF_RUN, whole_corpus),
    output:
        replaced(OF_RUN),
    log:
        f"{LOGS}/train/{{run}}.log",
    priority: training_time
    threads: 1
    resources:
        nodes=1,
        tasks_per_gpu=0,
        mpi="",
    params:
        record=lambda wildcards: identity.record_json(RUNS[wildcards.run]),
        corpus=lambda wildcards: CORPUS.format(corpus=corpus_of(wildcards)),
        folder=RUN,
        scratch=SCRATCH,
        evaluation=identity.record_json(STUDY.evaluation),
        precisions=lambda wildcards: PRECISIONS[wildcards.run],
        profile=given_by_profile,
    message:
        "train {wildcards.run}"
    shell:
        "python -m knowcap train --record {params.record:q} --corpus {params.corpus:q}"
        " --output {params.folder:q} --scratch {params.scratch:q} --threads {threads}"
        " --evaluation {params.evaluation:q} --precisions {params.precisions}"
        " {params.profile} > {log:q} 2>&1"


refuse_layouts(workflow.get_rule("train"))
