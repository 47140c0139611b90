"""Evaluation: what a trained model loses on each person and attribute, in nats.

Takes    a run and its corpus
Gives    runs/{run}/{precision}-{digest}/losses.nc
"""


rule evaluate:
    input:
        corpus=ancient(lambda wildcards: f"{RESULTS}/corpora/{corpus_of(wildcards)}/corpus.json"),
        tokenizer=ancient(
            lambda wildcards: f"{RESULTS}/corpora/{corpus_of(wildcards)}/tokenizer.json"
        ),
        record=ancient(f"{RESULTS}/runs/{{run}}/run.json"),
        model=ancient(f"{RESULTS}/runs/{{run}}/model.pt"),
        done=ancient(f"{RESULTS}/runs/{{run}}/DONE"),
    output:
        f"{RESULTS}/runs/{{run}}/{{measurement}}/losses.nc",
    log:
        f"{LOGS}/evaluate/{{run}}/{{measurement}}.log",
    threads: 1
    params:
        precision=lambda wildcards: MEASUREMENTS[wildcards.run, wildcards.measurement],
        evaluation=identity.record_json(STUDY.evaluation),
    message:
        "evaluate {wildcards.run}, {params.precision}"
    shell:
        "python -m knowcap evaluate --run {input.done:q} --corpus {input.corpus:q}"
        " --precision {params.precision:q} --evaluation {params.evaluation:q}"
        " --output {output:q} --threads {threads} > {log:q} 2>&1"
