"""Measurements: the losses of a run in one precision, in nats by person and attribute.

Reads    a run and its corpus, or the losses that its training has already evaluated
Writes   runs/{run}/{measurement}/losses.nc

Losses evaluated early are moved by the shell, in a hundredth of the time that Python needs to start;
in two steps, as the scratch folder can be on another disk and outputs must appear whole.
"""

from knowcap.stages.after_training import early_losses_path


rule evaluate:
    input:
        unless_made([f"{RUN}/{{measurement}}/losses.nc"], run_done),
    output:
        kept(f"{RUN}/{{measurement}}/losses.nc"),
    log:
        f"{LOGS}/evaluate/{{run}}/{{measurement}}.log",
    threads: 1
    resources:
        gpu=0,
        gpu_slots=1,
        attempt=attempt_number,
    params:
        corpus=lambda wildcards: CORPUS.format(corpus=corpus_name(wildcards)),
        run=RUN,
        precision=lambda wildcards: MEASUREMENTS[wildcards.run, wildcards.measurement],
        evaluation=identity.record_json(STUDY.evaluation),
        early=early_losses_path(Path(SCRATCH), "{measurement}").as_posix(),
        # Temporary files of a training that was killed while it evaluated.
        unfinished=early_losses_path(Path(SCRATCH), ".{measurement}").as_posix(),
    message:
        "evaluate {wildcards.run} in precision {params.precision}"
    shell:
        "(mv {params.early:q} {output:q}.part && mv {output:q}.part {output:q}) > {log:q} 2>&1"
        " || (rm -f {output:q}.part {params.unfinished:q}.*"
        f" && {KNOWCAP} evaluate"
        " --run {params.run:q} --corpus {params.corpus:q}"
        " --precision {params.precision:q} --evaluation {params.evaluation:q}"
        " --output {output:q} --threads {threads}"
        " --gpus {resources.gpu} --gpu-slots {resources.gpu_slots}"
        " --attempt {resources.attempt} --refusal {log:q}.refused)"
        " > {log:q} 2>&1"
