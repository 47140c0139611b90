"""Report: figures, one self-contained page, and the study's folder of results.

Takes    the table, the laws and what every run says of its making
Gives    studies/{study}/figures-{digest}/   the figures
         studies/{study}/report-{digest}/    report.html
         {study}/                            copies of all that, under names without digests
"""


rule figures:
    input:
        unless_made([FIGURES], lambda wildcards: [*OF_TABLE, *OF_LAWS]),
    output:
        report(directory(FIGURES), patterns=["{name}.svg"], category="Figures"),
    log:
        f"{LOGS}/{STUDY.study}/figures.log",
    localrule: True
    params:
        capacity=f"{TABLE}/capacity.nc",
        laws=f"{LAWS}/laws.nc",
    message:
        "figures"
    shell:
        "python -m knowcap figures --capacity {params.capacity:q} --laws {params.laws:q}"
        " --output {output:q} > {log:q} 2>&1"


rule report:
    input:
        unless_made([f"{REPORT}/report.html"], lambda wildcards: [*OF_TABLE, *OF_LAWS, FIGURES]),
    output:
        report(f"{REPORT}/report.html", category="Report"),
    log:
        f"{LOGS}/{STUDY.study}/report.log",
    localrule: True
    params:
        study=STUDY_FILE.as_posix(),
        capacity=f"{TABLE}/capacity.nc",
        laws=f"{LAWS}/laws.nc",
        figures=FIGURES,
    message:
        "report"
    shell:
        "python -m knowcap report --study {params.study:q} --capacity {params.capacity:q}"
        " --laws {params.laws:q} --figures {params.figures:q} --output {output:q} > {log:q} 2>&1"


rule publish:
    input:
        unless_made([PUBLISHED], lambda wildcards: OF_STUDY),
    output:
        PUBLISHED,
    log:
        f"{LOGS}/{STUDY.study}/publish.log",
    localrule: True
    params:
        files=OF_STUDY,
    message:
        "publish to {RESULTS}/{STUDY.study}"
    shell:
        "python -m knowcap publish --stamp {output:q} {params.files:q} > {log:q} 2>&1"
