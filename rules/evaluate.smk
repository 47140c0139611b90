"""Evaluation: what a trained model loses on each person and attribute, in nats.

Takes    a run and its corpus, or the answers that its training left
Gives    runs/{run}/{precision}-{digest}/losses.nc

Answers are moved in two steps, as the scratch folder can be on another disk: what stands under the
name of the output is whole. It takes a shell a hundredth of the time that a process of ours takes.
"""

from knowcap.evaluation.after_training import answers_path


rule evaluate:
    input:
        unless_made([f"{RUN}/{{measurement}}/losses.nc"], whole_run),
    output:
        replaced(f"{RUN}/{{measurement}}/losses.nc"),
    log:
        f"{LOGS}/evaluate/{{run}}/{{measurement}}.log",
    threads: 1
    resources:
        gpu=0,
        gpu_slots=1,
    params:
        corpus=lambda wildcards: CORPUS.format(corpus=corpus_of(wildcards)),
        run=RUN,
        precision=lambda wildcards: MEASUREMENTS[wildcards.run, wildcards.measurement],
        evaluation=identity.record_json(STUDY.evaluation),
        answers=answers_path(Path(SCRATCH), "{measurement}").as_posix(),
    message:
        "evaluate {wildcards.run}, {params.precision}"
    shell:
        "(mv {params.answers:q} {output:q}.part && mv {output:q}.part {output:q}) > {log:q} 2>&1"
        " || python -m knowcap evaluate --run {params.run:q} --corpus {params.corpus:q}"
        " --precision {params.precision:q} --evaluation {params.evaluation:q}"
        " --output {output:q} --threads {threads}"
        " --gpus {resources.gpu} --gpu-slots {resources.gpu_slots}"
        " > {log:q} 2>&1"
