"""Laws: every measurement in one table, and what it says of the paper's laws.

Takes    all losses of the study
Gives    studies/{study}/table-{digest}/   capacity.nc, and index.csv for people
         studies/{study}/laws-{digest}/    laws.nc, and laws.md for people
"""


rule table:
    input:
        ancient(CORPUS_FILES),
        ancient(RUN_FILES),
        ancient(LOSSES),
    output:
        capacity=f"{STORE}/table-{STAGES['table']}/capacity.nc",
        index=f"{STORE}/table-{STAGES['table']}/index.csv",
    log:
        f"{LOGS}/{STUDY.study}/table.log",
    params:
        study=STUDY_FILE.as_posix(),
    message:
        "table of every measurement"
    shell:
        "python -m knowcap table --study {params.study:q} --output {output.capacity:q}"
        " --index {output.index:q} > {log:q} 2>&1"


rule laws:
    input:
        capacity=ancient(f"{STORE}/table-{STAGES['table']}/capacity.nc"),
    output:
        laws=f"{STORE}/laws-{STAGES['laws']}/laws.nc",
        markdown=report(
            f"{STORE}/laws-{STAGES['laws']}/laws.md",
            category="Laws",
        ),
    log:
        f"{LOGS}/{STUDY.study}/laws.log",
    message:
        "laws"
    shell:
        "python -m knowcap laws --capacity {input.capacity:q} --output {output.laws:q}"
        " --markdown {output.markdown:q} > {log:q} 2>&1"
