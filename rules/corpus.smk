"""Corpora: the people of a run and how their biographies are written in tokens.

Reads    the record of a corpus
Writes   corpora/{corpus}/corpus.json      the record, and the facts measured of the corpus
         corpora/{corpus}/tokenizer.json   the tokenizer, reduced to the tokens in use
         corpora/{corpus}/versions.*       for bioR: the rewritten biographies
         corpora/{corpus}/DONE             digests of the other files
"""


rule corpus:
    output:
        kept(CORPUS_FILES),
    log:
        f"{LOGS}/corpus/{{corpus}}.log",
    wildcard_constraints:
        corpus=f"(?!({'|'.join(REWRITTEN)})/)[^/]+",
    priority: BEFORE_TRAININGS
    resources:
        attempt=attempt_number,
    params:
        record=lambda wildcards: identity.record_json(CORPORA[wildcards.corpus]),
        folder=CORPUS,
        table=table_option,
    message:
        "make corpus {wildcards.corpus}"
    shell:
        f"{KNOWCAP} corpus --record {{params.record:q}} {{params.table}} --output {{params.folder:q}}"
        " --attempt {resources.attempt} --refusal {log:q}.refused > {log:q} 2>&1"


use rule corpus as rewritten_corpus with:
    output:
        kept(REWRITTEN_FILES),
    wildcard_constraints:
        corpus="|".join(REWRITTEN) or "(?!)",
