"""Random tokens for whatever trains on them, and the time it takes over each step.

The tokens are new in every step: a model that is fed the same batch again and again fits it, its
gradients become denormal numbers, and these are slow. They are no noise either: every second token
follows from the one before, and some are more frequent than others. So losses fall, and those of
two implementations can be compared.

Shapes: R models, B windows of a step, S positions of a window.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from knowcap_benchmarks.cases import Case

BLOCK_TOKENS = 2**20
"""Made together, while no clock runs."""

WARM_UP_STEPS = 3
"""Of an implementation whose loss is not asked for."""


class Feed:
    """Yields the windows of each step until the time is up.

    A step's time is what passes between giving its windows and being asked for the next.

    Parameters
    ----------
    case, num_models
        The size of a step, and for how many models.
    device
        Where the windows are wanted.
    check_steps
        Steps after which the loss is noted, none of them timed.
    seconds
        How long to time steps that follow.
    """

    def __init__(
        self, case: Case, num_models: int, device: torch.device, check_steps: int, seconds: float
    ) -> None:
        self._case, self._num_models, self._device = case, num_models, device
        self._warm_up = max(check_steps, WARM_UP_STEPS)
        self._check_steps = check_steps
        self._seconds = seconds
        self._losses: list[Tensor] = []
        self.step_s: list[float] = []
        """Of each timed step."""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield [R, B, S + 1] tokens in int64."""
        number = 0
        while True:
            for tokens in self._block(number):
                begun = self._now()
                yield tokens
                elapsed = self._now() - begun
                if self._warm_up > 0:
                    self._warm_up -= 1
                else:
                    self.step_s.append(elapsed)
                if self.is_over:
                    return
            number += 1

    @property
    def is_over(self) -> bool:
        """Whether enough was timed."""
        return len(self.step_s) >= WARM_UP_STEPS and sum(self.step_s) >= self._seconds

    def note(self, loss: Tensor) -> None:
        """Take note of a step's loss."""
        if len(self._losses) < self._check_steps:
            self._losses.append(loss.detach().float().mean())

    @property
    def losses(self) -> tuple[float, float] | None:
        """Of the first step and the last that was asked for, in nats."""
        return (float(self._losses[0]), float(self._losses[-1])) if self._losses else None

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all models in a second of the median step."""
        return self._num_models * self._case.step_tokens / statistics.median(self.step_s)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _block(self, number: int) -> Tensor:
        """Tokens of some steps, [steps, R, B, S + 1]; a model's do not depend on the others."""
        case = self._case
        shape = (max(1, BLOCK_TOKENS // case.step_tokens), case.num_windows, case.seq_length + 1)
        blocks = [
            random_tokens(np.random.default_rng((number, model)), shape, case.vocab_size)
            for model in range(self._num_models)
        ]
        return torch.from_numpy(np.stack(blocks, 1)).to(self._device)


def random_tokens(
    generator: np.random.Generator, shape: tuple[int, ...], vocab_size: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Draw tokens, low ones more often, each at an even place deciding the one behind it."""
    tokens = (vocab_size * generator.random(shape) ** 2).astype(np.int64)
    even = tokens[..., 0:-1:2]
    tokens[..., 1::2] = (5 * even + 3) % vocab_size
    return tokens
