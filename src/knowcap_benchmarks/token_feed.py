"""Random training tokens, and the time of each training step on them.

The tokens are new in every step. On a repeated batch a model overfits, its gradients become
denormal numbers, and arithmetic on these is slow. Every second token follows from the one before
it, and some tokens are more frequent than others, so losses fall and can be compared between
implementations.

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
"""Tokens drawn at once, outside the timed part."""

WARM_UP_STEPS = 3
"""Least number of untimed steps, and of timed ones."""


class TokenFeed:
    """Yield the windows of each step until the time is up.

    The time of a step is the time between yielding its windows and the request for the next ones.

    Parameters
    ----------
    case, num_models
        Size of a step, and number of models.
    device
        Device of the windows.
    check_steps
        Number of first steps whose losses are recorded; they are not timed.
    seconds
        Total time of the timed steps.
    """

    def __init__(
        self, case: Case, num_models: int, device: torch.device, check_steps: int, seconds: float
    ) -> None:
        self._case, self._num_models, self._device = case, num_models, device
        self._untimed_steps_left = max(check_steps, WARM_UP_STEPS)
        self._check_steps = check_steps
        self._seconds = seconds
        self._losses: list[Tensor] = []
        self.step_s: list[float] = []
        """Seconds of each timed step."""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield [R, B, S + 1] tokens in int64."""
        block = 0
        while True:
            for tokens in self._block(block):
                start = self._now()
                yield tokens
                elapsed_s = self._now() - start
                if self._untimed_steps_left > 0:
                    self._untimed_steps_left -= 1
                else:
                    self.step_s.append(elapsed_s)
                if self.is_finished:
                    return
            block += 1

    @property
    def is_finished(self) -> bool:
        """Whether enough steps were timed."""
        return len(self.step_s) >= WARM_UP_STEPS and sum(self.step_s) >= self._seconds

    def record_loss(self, loss: Tensor) -> None:
        """Record the loss of a step, if it is one of the first `check_steps`."""
        if len(self._losses) < self._check_steps:
            self._losses.append(loss.detach().float().mean())

    @property
    def losses(self) -> tuple[float, float] | None:
        """First and last recorded loss in nats, None if none was recorded."""
        return (float(self._losses[0]), float(self._losses[-1])) if self._losses else None

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all models per second, from the median step."""
        return self._num_models * self._case.step_tokens / statistics.median(self.step_s)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _block(self, number: int) -> Tensor:
        """Tokens of some steps, [steps, R, B, S + 1], drawn independently for each model."""
        case = self._case
        shape = (max(1, BLOCK_TOKENS // case.step_tokens), case.num_windows, case.seq_length + 1)
        tokens = [
            random_tokens(np.random.default_rng((number, model)), shape, case.vocab_size)
            for model in range(self._num_models)
        ]
        return torch.from_numpy(np.stack(tokens, 1)).to(self._device)


def random_tokens(
    generator: np.random.Generator, shape: tuple[int, ...], vocab_size: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Draw tokens, low ones more often; each odd position follows from the one before it."""
    tokens = (vocab_size * generator.random(shape) ** 2).astype(np.int64)
    even = tokens[..., 0:-1:2]
    tokens[..., 1::2] = (5 * even + 3) % vocab_size
    return tokens
