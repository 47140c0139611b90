"""The stacked engine: all replicates as one PyTorch model, on a CPU or a GPU.

Shapes: R replicates, B windows of a step, S positions of a window, P parameters of a replicate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.engines.base import Step
from knowcap.model.moe import load_metrics
from knowcap.model.optimizer import AdamW
from knowcap.model.stacked_model import StackedModel


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
        (:mod:`knowcap.engines.cuda_graph`), unless experts have as many places as it takes.
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
