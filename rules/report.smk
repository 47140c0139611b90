"""The report: figures, one self-contained page, and copies of both in the study's folder.

Reads    the table, the laws, and the metrics of every run
Writes   studies/{study}/figures-{digest}/   the figures, as SVG, PDF and PNG
         studies/{study}/report-{digest}/    report.html
         {study}/                            copies of table, laws, figures and report, under names
                                             without digests
"""


rule figures:
    input:
        unless_made([FIGURES], lambda wildcards: [*TABLE_FILES, *LAWS_FILES]),
    output:
        report(kept(directory(FIGURES)), patterns=["{name}.svg"], category="Figures"),
    log:
        f"{LOGS}/{STUDY.study}/figures.log",
    localrule: True
    params:
        capacity=f"{TABLE}/capacity.nc",
        laws=f"{LAWS}/laws.nc",
    message:
        "draw the figures"
    shell:
        # Complete figures stay, as another checkout may read them.
        f"[ -e {{output:q}}/DONE ] || {KNOWCAP} figures"
        " --capacity {params.capacity:q} --laws {params.laws:q} --output {output:q}"
        " > {log:q} 2>&1"


rule report:
    input:
        unless_made([f"{REPORT}/report.html"], report_inputs),
    output:
        report(kept(f"{REPORT}/report.html"), category="Report"),
    log:
        f"{LOGS}/{STUDY.study}/report.log",
    localrule: True
    params:
        study=STUDY_FILE.as_posix(),
        capacity=f"{TABLE}/capacity.nc",
        laws=f"{LAWS}/laws.nc",
        figures=FIGURES,
    message:
        "write the report"
    shell:
        f"{KNOWCAP} report"
        " {params.study:q} --capacity {params.capacity:q} --laws {params.laws:q}"
        " --figures {params.figures:q} --output {output:q} > {log:q} 2>&1"


rule publish:
    input:
        unless_made([PUBLISHED], lambda wildcards: STUDY_OUTPUTS),
    output:
        kept(PUBLISHED),
    log:
        f"{LOGS}/{STUDY.study}/publish.log",
    localrule: True
    params:
        files=STUDY_OUTPUTS,
    message:
        "copy the results to the folder of the study, and print R of every model"
    shell:
        f"{KNOWCAP} publish --stamp {{output:q}} {{params.files:q}} 2> {{log:q}}"
