"""Evaluation of runs with diverged replicates, whose weights are not finite.

Quantisers factorise matrices and fail on weights that are not finite. So a diverged replicate takes
the weights of another one for the length of the evaluation, and its logits are NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.data.corpus import CorpusReader
from knowcap.evaluation.prepared_model import LogitsBackend, PreparedModel
from knowcap.model.stacked_model import StackedModel


def with_nan_for_diverged(backend: LogitsBackend) -> LogitsBackend:
    """Return a backend that gives diverged replicates logits of NaN, and others their own."""

    def prepare(model: StackedModel, run: Run, corpus_reader: CorpusReader) -> PreparedModel:
        is_finite_R = torch.isfinite(model.flat).all(dim=1)
        if is_finite_R.all():
            return backend(model, run, corpus_reader)
        if not is_finite_R.any():
            return PreparedModel(lambda tokens_PS: _all_nan(tokens_PS, run, corpus_reader), {})
        with torch.no_grad():
            model.flat[~is_finite_R] = model.flat[is_finite_R][0]
        logits, attrs = backend(model, run, corpus_reader)

        def with_nan(tokens_PS: Tensor) -> Tensor:
            logits_RPSV = logits(tokens_PS)
            is_nan_R111 = ~is_finite_R.reshape(-1, 1, 1, 1).to(logits_RPSV.device)
            return logits_RPSV.masked_fill(is_nan_R111, torch.nan)

        return PreparedModel(with_nan, attrs)

    return prepare


def _all_nan(tokens_PS: Tensor, run: Run, corpus_reader: CorpusReader) -> Tensor:
    shape = (len(run.replicates.pairs), *tokens_PS.shape, corpus_reader.vocab_size)
    return torch.full(shape, torch.nan)
