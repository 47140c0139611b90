"""Benchmarks: speed beside other libraries, of commands and of the stages. Not a part of `all`.

Reads    nothing; each job takes all cores, so that jobs run one after another
Writes   benchmarks/{name}.json             one benchmark; delete it to measure again
         benchmarks/tables.md growth.svg    tables and figure of all of them

`python -m knowcap_benchmarks tables` writes the tables into the documentation.
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
    "threads",
]

GPU_COMPARISONS = ["gpu-2-2", "gpu-4-4", "gpu-8-8", "gpu-12-12", "gpu-20-16"]

# Commands whose start-up time matters: without torch, with torch, and dry runs.
COMMANDS = [
    "python -m knowcap --version",
    "python -m knowcap train --help",
    "python -m knowcap plan config/paper.yaml",
    "python -c 'import knowcap.training.train'",
    "snakemake --dry-run --quiet all --nolock",
    "snakemake --dry-run --quiet all --nolock --configfile config/paper.yaml",
]

# Measurements of each implementation and seconds of each: enough for the ratio of two.
ROUNDS, SECONDS = 3, 2
ROUNDS_OF = {"training-4-256": 2, "rendering": 2, "growth": 2}

# Snakemake gives all cores to a job that requests more than there are.
ALL_CORES = 1024

BENCHMARK_FILES = expand(f"{BENCHMARKS}/{{name}}.json", name=[*COMPARISONS, "commands", "stages"])


wildcard_constraints:
    comparison="|".join([*COMPARISONS, *GPU_COMPARISONS]),


rule benchmark:
    input:
        BENCHMARK_FILES,
    output:
        tables=f"{BENCHMARKS}/tables.md",
        figure=f"{BENCHMARKS}/growth.svg",
    log:
        f"{LOGS}/benchmark/tables.log",
    message:
        "write the tables of all benchmarks"
    shell:
        f"{PYTHON} -m knowcap_benchmarks tables"
        " {input:q} --output {output.tables:q} --figure {output.figure:q} > {log:q} 2>&1"


rule benchmark_on_a_gpu:
    input:
        expand(f"{BENCHMARKS}/{{name}}.json", name=GPU_COMPARISONS),


rule comparison:
    output:
        f"{BENCHMARKS}/{{comparison}}.json",
    log:
        f"{LOGS}/benchmark/{{comparison}}.log",
    threads: ALL_CORES
    params:
        rounds=lambda wildcards: ROUNDS_OF.get(wildcards.comparison, ROUNDS),
        seconds=SECONDS,
    message:
        "run benchmark {wildcards.comparison}"
    shell:
        f"{PYTHON} -m knowcap_benchmarks run"
        " {wildcards.comparison} --threads {threads} --rounds {params.rounds}"
        " --seconds {params.seconds} --output {output:q} > {log:q} 2>&1"


rule commands:
    output:
        f"{BENCHMARKS}/commands.json",
    log:
        f"{LOGS}/benchmark/commands.log",
    threads: ALL_CORES
    params:
        commands=COMMANDS,
    message:
        "time the commands"
    shell:
        # The commands are named `python` and `snakemake` in the results.
        f'PATH={shlex.quote(os.path.dirname(sys.executable))}:"$PATH" {PYTHON} -m knowcap_benchmarks run'
        " commands --output {output:q} --command {params.commands:q} > {log:q} 2>&1"


rule stages:
    input:
        STUDY_OUTPUTS,
    output:
        f"{BENCHMARKS}/stages.json",
    log:
        f"{LOGS}/benchmark/stages.log",
    threads: ALL_CORES
    params:
        study=STUDY_FILE.as_posix(),
    message:
        "time the stages of {params.study}"
    shell:
        f"{PYTHON} -m knowcap_benchmarks run"
        " stages {params.study:q} --output {output:q} > {log:q} 2>&1"
