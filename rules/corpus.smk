"""Knowledge: a population, and how it is written in tokens.

Takes    the record of a corpus
Gives    corpora/{corpus}/corpus.json      what was asked, and the facts measured of it
         corpora/{corpus}/tokenizer.json   the tokenizer, reduced to the tokens in use
"""


rule corpus:
    output:
        facts=f"{RESULTS}/corpora/{{corpus}}/corpus.json",
        tokenizer=f"{RESULTS}/corpora/{{corpus}}/tokenizer.json",
    log:
        f"{LOGS}/corpus/{{corpus}}.log",
    params:
        record=lambda wildcards: identity.record_json(CORPORA[wildcards.corpus]),
    message:
        "corpus {wildcards.corpus}"
    shell:
        "python -m knowcap corpus --record {params.record:q} --output {output.facts:q} > {log:q} 2>&1"
