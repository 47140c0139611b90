"""What makes the steps of a run: one interface, whatever computes behind it.

A run says what is trained; an engine is how. All engines begin with the same weights, make the
same steps up to rounding, and hand out the same named weights, so that nothing else in a training
knows which one is at work.

Shapes: R replicates, B windows of a step, S positions of a window, P parameters of a replicate.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.lm.model.experts import load_metrics
from knowcap.lm.model.stacked import StackedModel
from knowcap.lm.optimizer import AdamW


class Step(NamedTuple):
    """What a step was like."""

    loss: Tensor
    """Mean cross-entropy of each replicate before the step, [R] in nats."""
    grad_norm: Tensor
    """Norm of each replicate's gradient before clipping, [R]."""


class Engine(Protocol):
    """Makes the steps of a run's replicates."""

    @property
    def num_bytes(self) -> int:
        """Of a checkpoint."""

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one step.

        Parameters
        ----------
        tokens_RBS1
            Windows of S + 1 tokens of any integer type, -1 where there are none; see
            :meth:`knowcap.lm.model.stacked.StackedModel.loss`.
        iteration
            Steps made before this one.
        """

    def facts(self) -> dict[str, Any]:
        """Which engine this is, for who reads its results: `name`, and how it is divided."""

    def metrics(self) -> dict[str, Any]:
        """What else there is to tell of the last step, for the journal."""

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and the moments of their gradients, [R, P] each."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` of any engine gave."""

    def weights(self) -> dict[str, Tensor]:
        """Each named parameter of all replicates, [R, ...] in float32 on the CPU."""


class StackedEngine:
    """Replicates as one stacked Megatron model, on a CPU or a GPU."""

    def __init__(self, model: StackedModel, run: Run, train_iters: int) -> None:
        self._model = model
        self._optimizer = AdamW(model, run.optimization, run.replicates, train_iters)

    @property
    def num_bytes(self) -> int:
        """Of a checkpoint."""
        return 3 * self._model.flat.nbytes

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one step."""
        self._optimizer.schedule(iteration)
        return self.iterate(tokens_RBS1)

    def iterate(self, tokens_RBS1: Tensor) -> Step:
        """Make the step that is scheduled: all that a device does, from tensors to tensors.

        Which operations these are depends on the shapes alone, so that they can be recorded
        (:mod:`knowcap.lm.recorded`), unless experts have as many places as it takes.
        """
        loss_R = self._model.loss(tokens_RBS1.long())
        torch.autograd.backward(loss_R.sum())
        return Step(loss_R.detach(), self._optimizer.update())

    def facts(self) -> dict[str, Any]:
        """One model, of however many replicates."""
        return {"name": "stacked"}

    def metrics(self) -> dict[str, Any]:
        """How experts share the load, if there are any."""
        return load_metrics(self._model.loads)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and moments, [R, P] each."""
        return {"parameters": self._model.flat, **self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore parameters and moments."""
        self._model.flat.copy_(state["parameters"])
        self._optimizer.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        """Each named parameter."""
        return {name: value.detach().cpu() for name, value in self._model.named_parameters()}
