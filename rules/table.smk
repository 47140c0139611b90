"""The table: every measurement of the study, with its bits and what was trained.

Reads    all losses, runs and corpora of the study
Writes   studies/{study}/table-{digest}/   capacity.nc, and index.csv for people
"""


rule table:
    input:
        unless_made(TABLE_FILES, study_done),
    output:
        capacity=kept(f"{TABLE}/capacity.nc"),
        index=kept(f"{TABLE}/index.csv"),
    log:
        f"{LOGS}/{STUDY.study}/table.log",
    localrule: True
    params:
        study=STUDY_FILE.as_posix(),
    message:
        "write the table of all measurements"
    shell:
        f"{KNOWCAP} table"
        " {params.study:q} --output {output.capacity:q} --index {output.index:q}"
        " > {log:q} 2>&1"
