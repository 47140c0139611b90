"""Options of a corpus that the writers of biographies and the tokenizers implement.

Writers and tokenizers are chosen by comparison with some of the values, so an unknown value would
be written as one of the others.
"""

from __future__ import annotations

from knowcap.config import Corpus
from knowcap.config.options import Options, any_value, refuse, unimplemented
from knowcap.data.tokenizer import TOKENIZERS

OPTIONS: Options = {
    "knowledge.kind": frozenset({"bioS", "bioS-simple", "bioR", "bioD", "table"}),
    "knowledge.layout": frozenset({"sentences", "compact"}),
    "knowledge.rewriter": frozenset({"grammar"}),
    **any_value("knowledge", "num_people", "seed", "num_versions"),
    **any_value("knowledge", "file", "sha256", "name_column", "num_names", "attributes"),
    **any_value("knowledge", "extra_attributes"),
    **any_value("knowledge", "num_attributes", "num_chunks", "diversity"),
    **any_value("knowledge", "chunk_length", "alphabet_size"),
    **any_value("knowledge.rewriter", "model", "revision", "temperature", "top_p"),
    **any_value("knowledge.rewriter", "num_words", "max_attempts"),
    "tokenizer": frozenset(TOKENIZERS),
    **any_value("mixture", "useful_share", "num_junk_people", "domain_token"),
    "mixture.unit": frozenset({"window", "biography"}),
}
"""Implemented options of a corpus."""


def check_implemented(corpus: Corpus) -> None:
    """Raise a UserError if an option of a corpus is not implemented.

    Raises
    ------
    UserError
        With all such options.
    """
    refuse(
        error._replace(field=f"corpus.{error.field}") for error in unimplemented(corpus, OPTIONS)
    )
