"""The interface of an engine, which makes the optimizer steps of a run's replicates.

All engines start from the same initial weights, make the same steps up to rounding and return the
same named weights, so the training loop does not depend on which engine runs.

Shapes: R replicates, B windows of a step, S positions of a window, P parameters of a replicate.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor


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
            :meth:`knowcap.model.stacked_model.StackedModel.loss`.
        iteration
            Steps made before this one.
        """

    def facts(self) -> dict[str, Any]:
        """Which engine this is, for who reads its results: `name`, and how it is divided."""

    def metrics(self) -> dict[str, Any]:
        """What else there is to tell of the last step, for the metrics_logger."""

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and the moments of their gradients, [R, P] each."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` of any engine gave."""

    def weights(self) -> dict[str, Tensor]:
        """Each named parameter of all replicates, [R, ...] in float32 on the CPU."""
