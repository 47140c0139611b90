"""AdamW for stacked replicates, and the learning rate schedule.

Each replicate has its own learning rate and gradient norm. All parameters are one buffer with a row
per replicate, so that a step is a handful of operations for any number of parameters.

Shapes: R replicates, P parameters of a replicate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from knowcap.config import Optimization, Replicates
from knowcap.model.stacked_model import StackedModel


def learning_rate_scale(optimization: Optimization, train_iters: int, iteration: int) -> float:
    """Learning rate of a step as a fraction of the peak.

    It rises linearly over the warm-up and then falls along half a cosine to `min_lr_fraction`.

    Parameters
    ----------
    optimization
        Warm-up and `min_lr_fraction`.
    train_iters
        Number of steps.
    iteration
        Number of the step, from 0.
    """
    # PAPER A: linear warm-up, cosine to 0.1
    warmup = optimization.lr_warmup_iters
    if warmup is None:
        assert optimization.lr_warmup_fraction is not None
        warmup = round(optimization.lr_warmup_fraction * train_iters)
    step = iteration + 1
    if step <= warmup:
        return step / warmup
    progress = (step - warmup) / max(1, train_iters - warmup)
    floor = optimization.min_lr_fraction
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


class AdamW:
    """AdamW with decoupled weight decay on matrices (Loshchilov and Hutter, arXiv 1711.05101).

    Parameters
    ----------
    model
        Model whose flat buffer of parameters is updated in place.
    optimization
        Schedule, weight decay, betas, eps and the norm that gradients are clipped to.
    replicates
        Peak learning rates, in the order of the model's replicates.
    train_iters
        Number of steps.
    """

    def __init__(
        self,
        model: StackedModel,
        optimization: Optimization,
        replicates: Replicates,
        train_iters: int,
    ) -> None:
        flat_RP = model.flat
        self._settings = optimization
        self._train_iters = train_iters
        self._decayed = flat_RP[:, : model.num_decayed]
        # In the order of their columns in the buffer.
        self._parameters = sorted(model.parameters(), key=lambda p: p.storage_offset())
        self._grad = torch.zeros_like(flat_RP)
        self._exp_avg = torch.zeros_like(flat_RP)
        self._exp_avg_sq = torch.zeros_like(flat_RP)
        self._peak_lr = flat_RP.new_tensor([[lr] for _, lr in replicates.pairs])
        assert len(self._peak_lr) == len(flat_RP)
        # Values that differ between steps are in tensors, so that CUDA graphs can read them. Before
        # the first step is scheduled, an update changes no parameter: the learning rate is 0, and
        # the step number is 1, because bias corrections of step 0 would divide by 0.
        self._lr_R1 = torch.zeros_like(self._peak_lr)
        self._num_steps = flat_RP.new_ones(())
        # Rows of each buffer for the replicates of each learning rate.
        buffers = (flat_RP, self._grad, self._exp_avg, self._exp_avg_sq)
        peaks = [lr for _, lr in replicates.pairs]
        same_lr = [[r for r, lr in enumerate(peaks) if lr == peak] for peak in replicates.lr]
        slices = self._adamw_columns(model)
        self._groups = [
            (
                self._lr_R1[members[0], 0],
                [[buffer[r, columns] for r in members for columns in slices] for buffer in buffers],
            )
            for members in same_lr
        ]

    def _adamw_columns(self, model: StackedModel) -> list[slice]:
        """Columns of the flat buffer that AdamW updates: all."""
        return [slice(None)]

    def step(self, iteration: int) -> Tensor:
        """Schedule and make a step.

        Parameters
        ----------
        iteration
            Number of the step, from 0.

        Returns
        -------
        Tensor
            Norm of each replicate's gradient before clipping, [R].
        """
        self.schedule(iteration)
        return self.update()

    def schedule(self, iteration: int) -> None:
        """Set the learning rates and the number of the next step."""
        scale = learning_rate_scale(self._settings, self._train_iters, iteration)
        torch.mul(self._peak_lr, scale, out=self._lr_R1)
        self._num_steps.fill_(iteration + 1)

    @torch.no_grad()
    def update(self) -> Tensor:
        """Make the scheduled step with the parameters' gradients, which are freed.

        Returns
        -------
        Tensor
            Norm of each replicate's gradient before clipping, [R].
        """
        settings = self._settings
        norm_R1 = self._gather_gradients()
        self._grad *= (settings.clip_grad / norm_R1).clamp(max=1)
        self._decayed *= 1 - settings.weight_decay * self._lr_R1
        for lr, (params, grads, exp_avgs, exp_avg_sqs) in self._groups:
            torch._fused_adamw_(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                [],
                [self._num_steps] * len(params),
                lr=lr,
                beta1=settings.adam_beta1,
                beta2=settings.adam_beta2,
                weight_decay=0.0,
                eps=settings.adam_eps,
                amsgrad=False,
                maximize=False,
            )
        return norm_R1.squeeze(1)

    def state_dict(self) -> dict[str, Tensor]:
        """First and second moments, [R, P] each; the number of steps is not included."""
        return {"exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the moments."""
        self._exp_avg.copy_(state["exp_avg"])
        self._exp_avg_sq.copy_(state["exp_avg_sq"])

    def _gather_gradients(self) -> Tensor:
        """Copy gradients to one buffer, free them, and return each replicate's norm, [R, 1]."""
        columns = []
        for parameter in self._parameters:
            assert parameter.grad is not None
            columns.append(parameter.grad.flatten(1))
            parameter.grad = None
        torch.cat(columns, 1, out=self._grad)
        norm_R1: Tensor = torch.linalg.vector_norm(self._grad, dim=1, keepdim=True)
        return norm_R1


OPTIMIZERS: Mapping[str, type[AdamW]] = {"AdamW": AdamW}
"""Optimizers of the stacked engine, by `optimization.optimizer`."""
