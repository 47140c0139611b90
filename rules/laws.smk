"""Laws: every measurement in one table, and what it says of the paper's laws.

Takes    all losses of the study
Gives    studies/{study}/table-{digest}/   capacity.nc, and index.csv for people
         studies/{study}/laws-{digest}/    laws.nc, and laws.md for people
"""


rule table:
    input:
        unless_made(OF_TABLE, whole_study),
    output:
        capacity=f"{TABLE}/capacity.nc",
        index=f"{TABLE}/index.csv",
    log:
        f"{LOGS}/{STUDY.study}/table.log",
    localrule: True
    params:
        study=STUDY_FILE.as_posix(),
    message:
        "table of every measurement"
    shell:
        "python -m knowcap table --study {params.study:q} --output {output.capacity:q}"
        " --index {output.index:q} > {log:q} 2>&1"


rule laws:
    input:
        unless_made(OF_LAWS, lambda wildcards: OF_TABLE),
    output:
        laws=f"{LAWS}/laws.nc",
        markdown=report(f"{LAWS}/laws.md", category="Laws"),
    log:
        f"{LOGS}/{STUDY.study}/laws.log",
    localrule: True
    params:
        capacity=f"{TABLE}/capacity.nc",
    message:
        "laws"
    shell:
        "python -m knowcap laws --capacity {params.capacity:q} --output {output.laws:q}"
        " --markdown {output.markdown:q} > {log:q} 2>&1"
