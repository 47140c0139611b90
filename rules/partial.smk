"""Partial results: table, laws, figures and report of the measurements that exist so far.

Reads    the finished measurements of a study, also while its trainings run
Writes   {study}/partial/   files as in {study}/; the missing measurements are printed

The rule has no inputs, so it starts no training, and no outputs, so it runs whenever it is called
(`snakemake partial`) and needs no lock on files of a running Snakemake.
"""


rule partial:
    log:
        f"{LOGS}/{STUDY.study}/partial.log",
    localrule: True
    params:
        study=STUDY_FILE.as_posix(),
        folder=f"{RESULTS}/{STUDY.study}/partial",
    message:
        "write table, laws, figures and report of the measurements so far to {params.folder}"
    shell:
        f"{KNOWCAP} table --partial"
        " {params.study:q} --output {params.folder:q}/capacity.nc"
        " --index {params.folder:q}/index.csv 2> {log:q}"
        f" && {KNOWCAP} laws"
        " --capacity {params.folder:q}/capacity.nc --output {params.folder:q}/laws.nc"
        " --markdown {params.folder:q}/laws.md >> {log:q} 2>&1"
        f" && {KNOWCAP} figures"
        " --capacity {params.folder:q}/capacity.nc --laws {params.folder:q}/laws.nc"
        " --output {params.folder:q}/figures >> {log:q} 2>&1"
        f" && {KNOWCAP} report"
        " {params.study:q} --capacity {params.folder:q}/capacity.nc"
        " --laws {params.folder:q}/laws.nc --figures {params.folder:q}/figures"
        " --output {params.folder:q}/report.html >> {log:q} 2>&1"
