"""Benchmark: how fast this is, beside what one would otherwise use. Not a part of `all`.

Takes    this machine, all to itself: each job has every core, so that they run one by one
Gives    benchmarks/{name}.json             one measurement; delete it to measure again
         benchmarks/tables.md growth.svg    all of them

`knowcap performance` puts the tables into the documentation.
"""

BENCHMARKS = f"{RESULTS}/benchmarks"

COMPARISONS = [
    "training-2-64",
    "training-4-256",
    "training-short",
    "replicates-16",
    "replicates-32",
    "rendering",
    "growth",
]

ON_A_GPU = ["gpu-2-2", "gpu-4-4", "gpu-8-8", "gpu-12-12", "gpu-20-16"]

# What should not be waited for: the start of commands, without and with torch, and planning.
COMMANDS = [
    "python -m knowcap --version",
    "python -m knowcap train --help",
    "python -m knowcap plan --study config/paper.yaml",
    "python -c 'import knowcap.training.train'",
    "snakemake --dry-run --quiet all --nolock",
    "snakemake --dry-run --quiet all --nolock --configfile config/paper.yaml",
]

# How often each implementation is measured, and for how many seconds: enough for a ratio of two.
ROUNDS, SECONDS = 3, 2
ROUNDS_OF = {"training-4-256": 2, "rendering": 2, "growth": 2}

# Snakemake gives a job that asks for more than there are all cores, so nothing runs beside it.
EVERY_CORE = 1024

MEASURED = expand(f"{BENCHMARKS}/{{name}}.json", name=[*COMPARISONS, "commands", "stages"])


wildcard_constraints:
    comparison="|".join([*COMPARISONS, *ON_A_GPU]),


rule benchmark:
    input:
        MEASURED,
    output:
        tables=f"{BENCHMARKS}/tables.md",
        figure=f"{BENCHMARKS}/growth.svg",
    log:
        f"{LOGS}/benchmark/tables.log",
    message:
        "tables of benchmarks"
    shell:
        "python -m knowcap performance {input:q} --output {output.tables:q} --figure {output.figure:q}"
        " > {log:q} 2>&1"


rule benchmark_on_a_gpu:
    input:
        expand(f"{BENCHMARKS}/{{name}}.json", name=ON_A_GPU),


rule comparison:
    output:
        f"{BENCHMARKS}/{{comparison}}.json",
    log:
        f"{LOGS}/benchmark/{{comparison}}.log",
    threads: EVERY_CORE
    params:
        rounds=lambda wildcards: ROUNDS_OF.get(wildcards.comparison, ROUNDS),
        seconds=SECONDS,
    message:
        "benchmark {wildcards.comparison}"
    shell:
        "python -m knowcap benchmark {wildcards.comparison} --threads {threads}"
        " --rounds {params.rounds} --seconds {params.seconds}"
        " --output {output:q} > {log:q} 2>&1"


rule commands:
    output:
        f"{BENCHMARKS}/commands.json",
    log:
        f"{LOGS}/benchmark/commands.log",
    threads: EVERY_CORE
    params:
        commands=COMMANDS,
    message:
        "benchmark commands"
    shell:
        "python -m knowcap benchmark commands --output {output:q} --command {params.commands:q}"
        " > {log:q} 2>&1"


rule stages:
    input:
        OF_STUDY,
    output:
        f"{BENCHMARKS}/stages.json",
    log:
        f"{LOGS}/benchmark/stages.log",
    threads: EVERY_CORE
    params:
        study=STUDY_FILE.as_posix(),
    message:
        "benchmark the stages of {params.study}"
    shell:
        "python -m knowcap benchmark stages --study {params.study:q} --output {output:q}"
        " > {log:q} 2>&1"
