"""Training: a run's replicates, side by side as one stacked model.

Takes    the record of a run and its corpus
Gives    runs/{run}/...                    weights, metrics, timing, provenance; DONE last

A training resumes from scratch/{run}, which is nobody's output: Snakemake deletes the outputs of
a job that fails. Retries belong to a profile, never to this rule.
"""


rule train:
    input:
        ancient(lambda wildcards: f"{RESULTS}/corpora/{corpus_of(wildcards)}/corpus.json"),
        ancient(lambda wildcards: f"{RESULTS}/corpora/{corpus_of(wildcards)}/tokenizer.json"),
    output:
        f"{RESULTS}/runs/{{run}}/run.json",
        f"{RESULTS}/runs/{{run}}/model.pt",
        f"{RESULTS}/runs/{{run}}/metrics.jsonl",
        f"{RESULTS}/runs/{{run}}/timing.json",
        f"{RESULTS}/runs/{{run}}/provenance.json",
        done=f"{RESULTS}/runs/{{run}}/DONE",
    log:
        f"{LOGS}/train/{{run}}.log",
    params:
        record=lambda wildcards: identity.record_json(RUNS[wildcards.run]),
        scratch=lambda wildcards: f"{RESULTS}/scratch/{wildcards.run}",
    priority: biographies_to_read
    message:
        "train {wildcards.run}"
    threads: 1
    shell:
        "python -m knowcap train --record {params.record:q} --corpus {input[0]:q}"
        " --output {output.done:q} --scratch {params.scratch:q} --threads {threads}"
        " > {log:q} 2>&1"
