"""The interface of an engine, which makes the optimizer steps of a run's replicates.

All engines start from the same initial weights, make the same steps up to rounding and return the
same named weights, so the training loop does not depend on which engine runs.

Shapes: R replicates, B windows of a step, S positions of a window, P parameters of a replicate.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor


class Step(NamedTuple):
    """Loss and gradient norm of one optimizer step."""

    loss: Tensor
    """Mean cross-entropy of each replicate before the step, [R] in nats."""
    grad_norm: Tensor
    """Norm of each replicate's gradient before clipping, [R]."""


class Engine(Protocol):
    """Makes the optimizer steps of a run's replicates."""

    @property
    def num_bytes(self) -> int:
        """Size of a checkpoint in bytes."""

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one optimizer step.

        Parameters
        ----------
        tokens_RBS1
            Windows of S + 1 tokens of any integer type, -1 for padding; see
            :meth:`knowcap.model.stacked_model.StackedModel.loss`.
        iteration
            Number of steps made before this one.
        """

    def facts(self) -> dict[str, Any]:
        """Return the engine's `name` and settings, which are written to provenance.json."""

    def metrics(self) -> dict[str, Any]:
        """Return further metrics of the last step, which are written to metrics.jsonl."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return parameters and optimizer moments, [R, P] each."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the :meth:`state_dict` of any engine."""

    def weights(self) -> dict[str, Tensor]:
        """Return each named parameter of all replicates, [R, ...] in float32 on the CPU."""
