"""Stacked engine: all replicates as one PyTorch model, on a CPU or a GPU.

Shapes: R replicates, B windows of a step, S positions of a window, P parameters of a replicate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.engines.base import Step
from knowcap.model.cpu_memory import keep_freed_memory
from knowcap.model.matmul import fast_matmul
from knowcap.model.moe import load_metrics
from knowcap.model.optimizer import OPTIMIZERS
from knowcap.model.stacked_model import StackedModel


class StackedEngine:
    """Trains a stacked model.

    Parameters
    ----------
    model
        The replicates with their initial weights.
    run
        Supplies the settings of the optimizer.
    train_iters
        Number of optimizer steps.
    """

    def __init__(self, model: StackedModel, run: Run, train_iters: int) -> None:
        if model.flat.device.type == "cpu":
            keep_freed_memory()
        self._model = model
        optimizer = OPTIMIZERS[run.optimization.optimizer]
        self._optimizer = optimizer(model, run.optimization, run.replicates, train_iters)

    @property
    def num_bytes(self) -> int:
        """Size of a checkpoint."""
        return sum(value.nbytes for value in self.state_dict().values())

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one optimizer step."""
        self._optimizer.schedule(iteration)
        return self.iterate(tokens_RBS1)

    def iterate(self, tokens_RBS1: Tensor) -> Step:
        """Make the scheduled step: forward pass, backward pass and update.

        The operations depend on the shapes of tensors only, and none makes the host wait, so that
        :mod:`knowcap.engines.cuda_graph` can capture them. The exception are experts without a
        capacity factor.
        """
        with fast_matmul(self._model.flat.device):
            loss_R = self._model.loss(tokens_RBS1.long())
            torch.autograd.backward(loss_R.sum())
        return Step(loss_R.detach(), self._optimizer.update())

    def facts(self) -> dict[str, Any]:
        """Return the engine's name."""
        return {"name": "stacked"}

    def metrics(self) -> dict[str, Any]:
        """Return the load of the experts in the last step, if there are any."""
        return load_metrics(self._model.loads)

    def state_dict(self) -> dict[str, Tensor]:
        """Return parameters and moments, [R, P] each."""
        return {"parameters": self._model.flat, **self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore parameters and moments."""
        self._model.flat.copy_(state["parameters"])
        self._optimizer.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        """Return each named parameter of all replicates on the CPU."""
        return {name: value.detach().cpu() for name, value in self._model.named_parameters()}
