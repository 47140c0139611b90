"""Diverged replicates: which ones, since which step, and what in the run's record may be the cause.

A replicate has diverged if its loss or gradient is not finite at a logged step, or its weights are
not finite at the end. This is an outcome of the training and not an error: the other replicates do
not depend on it, and ``run.json`` records it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from knowcap.config import Run

MAX_DECAY_PER_STEP = 2.0
"""lr times weight_decay above which AdamW's decay, a factor of 1 - lr weight_decay, lets weights
grow."""

LARGE = {"init_method_std": 1.0, "lr": 0.1, "clip_grad": 100.0}
"""Values above which a setting is named as a likely cause; usual ones are a tenth or less."""


def find_diverged(
    run: Run, first_non_finite: Sequence[float], weights: Mapping[str, Tensor], iteration: int
) -> list[dict[str, Any]]:
    """Return seed, lr, first step and likely causes of each diverged replicate, for ``run.json``.

    Parameters
    ----------
    run
        Record of the run.
    first_non_finite
        First logged step of each replicate with a loss or gradient that is not finite, or infinity.
    weights
        Weights of all replicates after the last step, [R, ...] each.
    iteration
        Number of steps made.
    """
    diverged = []
    for index, (seed, lr) in enumerate(run.replicates.pairs):
        is_finite = all(bool(torch.isfinite(each[index]).all()) for each in weights.values())
        step = min(first_non_finite[index], math.inf if is_finite else iteration)
        if step < math.inf:
            causes = likely_causes(run, lr)
            diverged.append(
                {"seed": seed, "lr": lr, "iteration": int(step), "likely_causes": causes}
            )
    return diverged


def likely_causes(run: Run, lr: float) -> str:
    """Return the settings that are far from usual values, or else those to look at first."""
    optimization, architecture = run.optimization, run.architecture
    values = {
        "init_method_std": architecture.init_method_std,
        "lr": lr,
        "clip_grad": optimization.clip_grad,
    }
    causes = [f"{name} {value:g}" for name, value in values.items() if value > LARGE[name]]
    decay = lr * optimization.weight_decay
    if decay > MAX_DECAY_PER_STEP:
        causes.insert(0, f"weight_decay {optimization.weight_decay:g} (lr x weight_decay above 2)")
    if causes:
        return ", ".join(causes)
    dtype = ", dtype bfloat16" if optimization.dtype == "bfloat16" else ""
    return f"none stands out; lr {lr:g} first{dtype}"
