"""Runs that the SIMD engine supports, and how it groups their replicates.

Replicates of narrow models share vectors in groups of up to eight lanes. A wide model fills the
processor's vectors alone: each of its replicates is a group of one lane.
"""

from __future__ import annotations

import math

import torch

from knowcap.config import Architecture, Run
from knowcap.config.options import Options, any_value
from knowcap.engines.implemented import engine_errors
from knowcap.engines.simd.ffi import (
    ACTIVATIONS,
    NORMALIZATIONS,
    find_library,
    parameter_names,
    workspace_bytes,
)
from knowcap.model.stacked_model import StackedModel

LANE_COUNTS = (1, 2, 4, 8)
"""Numbers of lanes that a group may have."""

MAX_HIDDEN_SIZE = 768
"""Largest hidden size for which this engine was measured to be no slower than the stacked one."""

MIN_HIDDEN_SIZE_ALONE = 64
"""Hidden size from which a replicate may have a group of its own."""

MIN_ACTIVATIONS_ALONE = 2**14
"""Hidden size times tokens of a step from which a replicate may have a group of its own. Several
replicates of that size would compete for the caches."""

MAX_WORKSPACE_BYTES = 2**30
"""Memory beyond which the blocked attention of the stacked engine is faster."""

OPTIONS: Options = {
    **any_value(
        "architecture",
        *("family", "num_layers", "num_attention_heads", "kv_channels", "num_query_groups"),
        *("rotary_percent", "rotary_base", "init_method_std", "tied", "gated"),
        *("add_bias", "mlp_weights", "num_moe_experts", "moe_router_topk"),
        *("moe_expert_capacity_factor", "moe_eval_capacity_factor", "moe_aux_loss_coeff"),
    ),
    "architecture.activation": frozenset(ACTIVATIONS),
    "architecture.normalization": frozenset(NORMALIZATIONS),
    **any_value(
        "optimization",
        *("exposures", "seq_length", "windows", "global_batch_size"),
        *("lr_warmup_iters", "lr_warmup_fraction", "min_lr_fraction", "weight_decay"),
        *("adam_beta1", "adam_beta2", "adam_eps", "clip_grad"),
    ),
    "optimization.optimizer": frozenset({"AdamW"}),
    "optimization.dtype": frozenset({"float32", "bfloat16"}),
    **any_value("replicates", "seeds", "lr"),
}
"""Options that this engine implements, or that do not affect its steps."""


def is_supported(run: Run, vocab_size: int, device: torch.device) -> bool:
    """Whether the SIMD engine can train a run, and is the fastest to do so."""
    lanes = lanes_per_group(run, torch.get_num_threads())
    dtype = run.optimization.dtype
    return (
        device.type == "cpu"
        and are_options_implemented(run)
        and run.architecture.hidden_size <= MAX_HIDDEN_SIZE
        and (dtype == "float32" or _is_grouped_alone(run))
        and all(find_library(each, dtype) is not None for each in set(lanes))
        and workspace_bytes(run, vocab_size, lanes) <= MAX_WORKSPACE_BYTES
    )


def are_options_implemented(run: Run) -> bool:
    """Whether the C code implements every option of a run."""
    return not any(engine_errors(run, OPTIONS))


def are_parameters_known(model: StackedModel, architecture: Architecture) -> bool:
    """Whether the C code trains every parameter of a model."""
    return {name for name, _ in model.named_parameters()} <= parameter_names(architecture)


def lanes_per_group(run: Run, num_threads: int) -> list[int]:
    """Return the number of lanes of each group of a run's replicates."""
    num_replicates = len(run.replicates.pairs)
    if _is_grouped_alone(run):
        return [1] * num_replicates
    return divide_replicates(num_replicates, num_threads)


def _is_grouped_alone(run: Run) -> bool:
    """Whether each replicate is large enough for a group of its own."""
    architecture, optimization = run.architecture, run.optimization
    width = architecture.hidden_size
    num_tokens = optimization.global_batch_size * optimization.seq_length
    is_large = width >= MIN_HIDDEN_SIZE_ALONE and width * num_tokens >= MIN_ACTIVATIONS_ALONE
    # in float32, replicates with experts share vectors; the code for bfloat16 has one lane
    return is_large and (not architecture.num_moe_experts or optimization.dtype == "bfloat16")


def divide_replicates(num_replicates: int, num_threads: int) -> list[int]:
    """Return the number of lanes of each group; groups are at least three quarters full.

    Replicates are divided among threads as evenly as the numbers of lanes allow.
    """
    wanted = min(math.ceil(num_replicates / num_threads), LANE_COUNTS[-1])
    largest = min(n for n in LANE_COUNTS if n >= wanted)
    groups = []
    while num_replicates > 0:
        num_lanes = min((n for n in LANE_COUNTS if n >= num_replicates), default=largest)
        if num_lanes > largest or 4 * num_replicates < 3 * num_lanes:
            num_lanes = max(n for n in LANE_COUNTS if n <= min(largest, num_replicates))
        groups.append(num_lanes)
        num_replicates -= num_lanes
    return groups
