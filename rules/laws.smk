"""The laws: estimates with confidence intervals, and a verdict on each law of the paper.

Reads    the table
Writes   studies/{study}/laws-{digest}/   laws.nc, and laws.md for people
"""


rule laws:
    input:
        unless_made(LAWS_FILES, lambda wildcards: TABLE_FILES),
    output:
        laws=kept(f"{LAWS}/laws.nc"),
        markdown=report(kept(f"{LAWS}/laws.md"), category="Laws"),
    log:
        f"{LOGS}/{STUDY.study}/laws.log",
    localrule: True
    params:
        capacity=f"{TABLE}/capacity.nc",
    message:
        "test the laws"
    shell:
        f"{KNOWCAP} laws"
        " --capacity {params.capacity:q} --output {output.laws:q} --markdown {output.markdown:q}"
        " > {log:q} 2>&1"
