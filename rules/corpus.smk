"""Knowledge: a population, and how it is written in tokens.

Takes    the record of a corpus
Gives    corpora/{corpus}/corpus.json      what was asked, and the facts measured of it
         corpora/{corpus}/tokenizer.json   the tokenizer, reduced to the tokens in use
         corpora/{corpus}/versions.*       of bioR, the rewritten biographies
"""


rule corpus:
    output:
        replaced(OF_CORPUS),
    log:
        f"{LOGS}/corpus/{{corpus}}.log",
    priority: BEFORE_ANY_TRAINING
    params:
        record=lambda wildcards: identity.record_json(CORPORA[wildcards.corpus]),
        folder=CORPUS,
    message:
        "corpus {wildcards.corpus}"
    shell:
        "python -m knowcap corpus --record {params.record:q} --output {params.folder:q}"
        " > {log:q} 2>&1"


use rule corpus as rewritten_corpus with:
    output:
        replaced(OF_REWRITTEN),
    wildcard_constraints:
        corpus="|".join(REWRITTEN) or "(?!)",


ruleorder: rewritten_corpus > corpus
