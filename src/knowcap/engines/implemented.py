"""Options of a run that the stacked engine implements.

The stacked engine trains what the faster engines decline. It reads an option by comparing it with
some of its values, so an unknown value would be computed as one of the others: it is refused before
a model is built. Every other engine has a list of its own, :mod:`knowcap.engines.simd.support`,
:mod:`knowcap.engines.cuda_graph` and :mod:`knowcap.engines.megatron.support`, and so have
Megatron's layers, which quantisation uses (:mod:`knowcap.model.megatron_config`).
"""

from __future__ import annotations

from collections.abc import Iterator

from knowcap.config import Run
from knowcap.config.base import FieldError
from knowcap.config.options import Options, any_value, refuse, unimplemented
from knowcap.model.megatron_config import ACTIVATIONS
from knowcap.model.optimizer import OPTIMIZERS

OPTIONS: Options = {
    **any_value(
        "architecture",
        *("family", "num_layers", "num_attention_heads", "kv_channels", "num_query_groups"),
        *("rotary_percent", "rotary_base", "init_method_std", "tied", "gated"),
        *("add_bias", "mlp_weights", "num_moe_experts", "moe_router_topk"),
        *("moe_expert_capacity_factor", "moe_eval_capacity_factor", "moe_aux_loss_coeff"),
    ),
    "architecture.activation": frozenset(ACTIVATIONS),
    "architecture.normalization": frozenset({"LayerNorm", "RMSNorm"}),
    **any_value(
        "optimization",
        *("exposures", "seq_length", "reset_attention_mask", "global_batch_size"),
        *("lr_warmup_iters", "lr_warmup_fraction", "min_lr_fraction", "weight_decay"),
        *("adam_beta1", "adam_beta2", "adam_eps", "clip_grad"),
    ),
    "optimization.optimizer": frozenset(OPTIMIZERS),
    "optimization.windows": frozenset({"packed", "aligned"}),
    "optimization.dtype": frozenset({"float32", "bfloat16"}),
    **any_value("replicates", "seeds", "lr"),
}
"""Implemented options of a run, besides those of its corpus."""


def engine_errors(run: Run, options: Options) -> Iterator[FieldError]:
    """Yield the options of a run that are not among those of an engine."""
    for section in ("architecture", "optimization", "replicates"):
        yield from unimplemented(getattr(run, section), options, f"{section}.")


def check_implemented(run: Run) -> None:
    """Raise a UserError if no engine implements an option of a run.

    Raises
    ------
    UserError
        With all such options.
    """
    refuse(engine_errors(run, OPTIONS))
