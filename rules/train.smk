"""Training: a run's replicates, side by side as one stacked model.

Takes    the record of a run and its corpus
Gives    runs/{run}/...                    weights, metrics, timing, provenance; DONE last

A training resumes from scratch/{run}, which is nobody's output: Snakemake deletes the outputs of
a job that fails. Retries belong to a profile, never to this rule.
"""


rule train:
    input:
        corpus=ancient(lambda wildcards: f"{RESULTS}/corpora/{corpus_of(wildcards)}/corpus.json"),
        tokenizer=ancient(
            lambda wildcards: f"{RESULTS}/corpora/{corpus_of(wildcards)}/tokenizer.json"
        ),
    output:
        record=f"{RESULTS}/runs/{{run}}/run.json",
        model=f"{RESULTS}/runs/{{run}}/model.pt",
        metrics=f"{RESULTS}/runs/{{run}}/metrics.jsonl",
        timing=f"{RESULTS}/runs/{{run}}/timing.json",
        provenance=f"{RESULTS}/runs/{{run}}/provenance.json",
        done=f"{RESULTS}/runs/{{run}}/DONE",
    log:
        f"{LOGS}/train/{{run}}.log",
    priority: biographies_to_read
    threads: 1
    params:
        record=lambda wildcards: identity.record_json(RUNS[wildcards.run]),
        scratch=lambda wildcards: f"{RESULTS}/scratch/{wildcards.run}",
    message:
        "train {wildcards.run}"
    shell:
        "python -m knowcap train --record {params.record:q} --corpus {input.corpus:q}"
        " --output {output.done:q} --scratch {params.scratch:q} --threads {threads}"
        " > {log:q} 2>&1"
