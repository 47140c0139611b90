"""Estimate of the main memory of a training, to bound how many run at a time on a machine."""

from __future__ import annotations

from knowcap.config import Run
from knowcap.model.num_params import num_params
from knowcap.planning.cost import expected_text_statistics

PROCESS_BYTES = 450 * 10**6
"""A process with torch, measured on a CPU: 410 MB with the smallest model."""

GPU_PROCESS_BYTES = 4 * 10**9
"""A process with a CUDA context. ASSUMED, not measured."""

BYTES_PER_PARAM = 44
"""Weights, gradients and the two moments of AdamW in float32 are 16; the rest are temporaries of a
step. Measured on a CPU: 40 with models of 17 and 27 million parameters."""

GPU_BYTES_PER_PARAM = 12
"""Weights and moments in main memory, as a checkpoint has them."""

ACTIVATIONS_PER_CHANNEL = 4
"""Numbers in float32 that a layer keeps for its backward pass, for each token and channel. Measured
on a CPU: 3.6 or less, as steps are made in parts."""


def training_memory_bytes(run: Run, *, on_gpu: bool) -> int:
    """Return an estimate of the main memory of a training.

    Parameters
    ----------
    run
        The run; its replicates train side by side.
    on_gpu
        Whether model and activations are in the memory of a GPU.

    Notes
    -----
    Of eight models of 3,000 to 27 million parameters, trained in one thread, the largest resident
    size was 63 to 99 % of the estimate (tests/planning/test_memory.py).
    """
    architecture, optimization = run.architecture, run.optimization
    vocab_size = expected_text_statistics(run.corpus).vocab_size
    params = num_params(architecture, vocab_size)["total"] * len(run.replicates.pairs)
    if on_gpu:
        return GPU_PROCESS_BYTES + GPU_BYTES_PER_PARAM * params
    tokens = optimization.global_batch_size * optimization.seq_length * len(run.replicates.pairs)
    channels = architecture.num_layers * architecture.hidden_size
    activations = 4 * ACTIVATIONS_PER_CHANNEL * tokens * channels
    return PROCESS_BYTES + BYTES_PER_PARAM * params + activations
