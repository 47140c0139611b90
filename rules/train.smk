"""Runs: the replicates of a model, trained side by side.

Reads    the record of a run, and its corpus
Writes   runs/{run}/...                  weights, metrics, timing, provenance; DONE last
         scratch/{run}/...               checkpoints, which no rule declares as outputs
         scratch/{run}/evaluations/...   losses, evaluated while the model is still in memory

A training that runs out of time saves a checkpoint and exits with code 75; the next attempt
resumes it. `retries` belong in a profile, never in this rule. An attempt after a mistake that it
would repeat stops at once. A process that is killed after it has
published the run, while it evaluates, has trained it: the job succeeds.

One process trains unless the profile gives more: `gpu` GPUs, or `processes` on each of `nodes`.
Several nodes also need `tasks` (their number) and `mpi: srun`; see docs/parallel.md.
"""


rule train:
    input:
        unless_made(RUN_FILES, corpus_done),
    output:
        kept(RUN_FILES),
    log:
        f"{LOGS}/train/{{run}}.log",
    priority: training_priority
    threads: threads_by_size
    # A profile sets them, or has them chosen by the size of the run (planning/gpus_by_size.py).
    resources:
        gpu=gpus_by_size,
        nodes=nodes_by_size,
        tasks=tasks_by_size,
        tasks_per_gpu=0,
        mpi=mpi_by_size,
        mem_mb=memory_by_size,
        attempt=attempt_number,
    params:
        record=lambda wildcards: identity.record_json(RUNS[wildcards.run]),
        corpus=lambda wildcards: CORPUS.format(corpus=corpus_name(wildcards)),
        folder=RUN,
        scratch=SCRATCH,
        evaluation=identity.record_json(STUDY.evaluation),
        precisions=lambda wildcards: PRECISIONS[wildcards.run],
        profile=training_options,
    message:
        "train {wildcards.run}"
    shell:
        f"{KNOWCAP} train"
        " --record {params.record:q} --corpus {params.corpus:q}"
        " --output {params.folder:q} --scratch {params.scratch:q} --threads {threads}"
        " --evaluation {params.evaluation:q} --precisions {params.precisions}"
        " {params.profile} --attempt {resources.attempt} --refusal {log:q}.refused > {log:q} 2>&1"
        " || {{ code=$?; [ $code -gt 128 ] && [ -e {params.folder:q}/DONE ] || exit $code; }}"


read_profile(rules)
