"""Selection of the engine that trains a run in one process."""

from __future__ import annotations

import torch

from knowcap.config import Run
from knowcap.engines.base import Engine
from knowcap.engines.cuda_graph import CudaGraphEngine, is_capturable
from knowcap.engines.implemented import check_implemented
from knowcap.engines.simd.engine import SimdEngine
from knowcap.engines.simd.support import are_parameters_known, is_supported
from knowcap.engines.stacked import StackedEngine
from knowcap.model.stacked_model import build_model


def build_engine(run: Run, vocab_size: int, train_iters: int, device: torch.device) -> Engine:
    """Return the fastest engine that supports a run on a device, with initial weights.

    Parameters
    ----------
    run
        The run to train.
    vocab_size
        Number of tokens that the corpus uses.
    train_iters
        Number of optimizer steps.
    device
        Device of the process.

    Raises
    ------
    UserError
        If no engine implements an option of the run.
    """
    check_implemented(run)
    seeds = [seed for seed, _ in run.replicates.pairs]
    dtype = getattr(torch, run.optimization.dtype)
    model = build_model(
        run.architecture,
        vocab_size,
        seeds,
        device,
        dtype,
        reset_attention_mask=run.optimization.reset_attention_mask,
    )
    if is_supported(run, vocab_size, device) and are_parameters_known(model, run.architecture):
        return SimdEngine(model, run, train_iters)
    engine = CudaGraphEngine if is_capturable(run, device) else StackedEngine
    return engine(model, run, train_iters)
