"""Options of a run that the Megatron engine implements, in one or several processes."""

from __future__ import annotations

from knowcap.config import Run
from knowcap.config.options import Options, any_value, refuse
from knowcap.engines.implemented import engine_errors
from knowcap.model import megatron_config

OPTIONS: Options = {
    **megatron_config.OPTIONS,
    **any_value(
        "optimization",
        *("exposures", "seq_length", "reset_attention_mask", "global_batch_size"),
        *("lr_warmup_iters", "lr_warmup_fraction", "min_lr_fraction", "weight_decay"),
        *("adam_beta1", "adam_beta2", "adam_eps", "clip_grad"),
    ),
    "optimization.optimizer": frozenset({"AdamW"}),
    "optimization.windows": frozenset({"packed", "aligned"}),
    "optimization.dtype": frozenset({"float32", "bfloat16"}),
    **any_value("replicates", "seeds", "lr"),
}
"""Options that this engine implements, or that do not affect its steps."""


def check_supported(run: Run) -> None:
    """Raise a UserError if the Megatron engine does not implement an option of a run.

    Raises
    ------
    UserError
        With all such options.
    """
    refuse(engine_errors(run, OPTIONS), "by several processes, only by one")
