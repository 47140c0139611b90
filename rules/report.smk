"""Report: figures, one self-contained page, and the study's folder of results.

Takes    the table, the laws and what every run says of its making
Gives    studies/{study}/figures-{digest}/   the figures
         studies/{study}/report-{digest}/    report.html
         {study}/                            copies of all that, under names without digests
"""


rule figures:
    input:
        capacity=ancient(f"{STORE}/table-{STAGES['table']}/capacity.nc"),
        laws=ancient(f"{STORE}/laws-{STAGES['laws']}/laws.nc"),
    output:
        report(
            directory(f"{STORE}/figures-{STAGES['figures']}"),
            patterns=["{name}.svg"],
            category="Figures",
        ),
    log:
        f"{LOGS}/{STUDY.study}/figures.log",
    message:
        "figures"
    shell:
        "python -m knowcap figures --capacity {input.capacity:q} --laws {input.laws:q}"
        " --output {output:q} > {log:q} 2>&1"


rule report:
    input:
        capacity=ancient(f"{STORE}/table-{STAGES['table']}/capacity.nc"),
        laws=ancient(f"{STORE}/laws-{STAGES['laws']}/laws.nc"),
        figures=ancient(f"{STORE}/figures-{STAGES['figures']}"),
    output:
        report(
            f"{STORE}/report-{STAGES['report']}/report.html",
            category="Report",
        ),
    log:
        f"{LOGS}/{STUDY.study}/report.log",
    params:
        study=STUDY_FILE.as_posix(),
    message:
        "report"
    shell:
        "python -m knowcap report --study {params.study:q} --capacity {input.capacity:q}"
        " --laws {input.laws:q} --figures {input.figures:q} --output {output:q} > {log:q} 2>&1"


rule publish:
    input:
        ancient(f"{STORE}/table-{STAGES['table']}/capacity.nc"),
        ancient(f"{STORE}/table-{STAGES['table']}/index.csv"),
        ancient(f"{STORE}/laws-{STAGES['laws']}/laws.nc"),
        ancient(f"{STORE}/laws-{STAGES['laws']}/laws.md"),
        ancient(f"{STORE}/figures-{STAGES['figures']}"),
        ancient(f"{STORE}/report-{STAGES['report']}/report.html"),
    output:
        PUBLISHED,
    log:
        f"{LOGS}/{STUDY.study}/publish.log",
    message:
        "publish to {RESULTS}/{STUDY.study}"
    shell:
        "python -m knowcap publish --stamp {output:q} {input:q} > {log:q} 2>&1"
