"""Whole iterations as CUDA graphs: what a GPU does in a step is recorded once, and replayed.

A step of a small model is some hundred operations, each of which a GPU has done before the next
one is sent to it. Recorded, they are sent at once. A recording knows addresses of memory and
numbers, and asks the host nothing: all that differs between steps (tokens, learning rates, how
many steps there were) is in tensors that stay where they are, and what a step answers is read from
such tensors.

Shapes: R replicates, B windows of a step, S positions of a window.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.engines.base import Step
from knowcap.engines.stacked import StackedEngine
from knowcap.model.stacked_model import StackedModel

NUM_WARMUPS = 3
"""Iterations before the recorded one: libraries prepare, and tables are made, in the first."""

_log = logging.getLogger(__name__)

Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Makes a piece of work something that can be replayed. It may be done a few times for that."""


def is_capturable(run: Run, device: torch.device) -> bool:
    """Whether a run's iterations are all the same operations, on a device that can record them.

    Experts that take every token that chooses them have as many places as the fullest one needs,
    which the host has to know.
    """
    architecture = run.architecture
    is_static = not architecture.num_moe_experts or architecture.moe_expert_capacity_factor
    return device.type == "cuda" and bool(is_static)


def record(work: Callable[[], None]) -> Callable[[], None]:
    """Record what a piece of work does on the GPU.

    Raises
    ------
    RuntimeError
        If it cannot be recorded. Work may have been done even so.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):  # is left also where recording fails
            for _ in range(NUM_WARMUPS):
                work()
            # Meanwhile a thread pins the memory of the next windows, which is no part of this.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                work()
    finally:
        torch.cuda.synchronize()
    return graph.replay


class CudaGraphEngine(StackedEngine):
    """A stacked engine whose iteration is recorded before the first step.

    Where that fails, iterations are made operation by operation, as the stacked engine does.

    Parameters
    ----------
    model, run, train_iters
        See :class:`knowcap.engines.stacked.StackedEngine`.
    recorder
        What records.
    """

    def __init__(
        self, model: StackedModel, run: Run, train_iters: int, recorder: Recorder = record
    ) -> None:
        super().__init__(model, run, train_iters)
        settings = run.optimization
        shape = (model.num_replicates, settings.global_batch_size, settings.seq_length + 1)
        # Windows of padding teach nothing, and no step is scheduled yet: whatever it takes to
        # record, parameters and moments stay as they are.
        self._tokens = torch.full(shape, -1, device=model.flat.device)
        self._answer = model.flat.new_zeros(len(Step._fields), model.num_replicates)
        self._replay: Callable[[], None] | None = None
        try:
            self._replay = recorder(self._iterate)
        except RuntimeError as error:
            model.zero_grad(set_to_none=True)  # of a step that was recorded and not made
            _log.warning("trains without a recording of its steps, as that failed: %s", error)

    def iterate(self, tokens_RBS1: Tensor) -> Step:
        """Make the step that is scheduled."""
        if self._replay is None:
            return super().iterate(tokens_RBS1)
        assert tokens_RBS1.shape == self._tokens.shape
        self._tokens.copy_(tokens_RBS1)
        self._replay()
        return Step(*self._answer.clone().unbind())

    def facts(self) -> dict[str, Any]:
        """Whether steps are recorded."""
        return super().facts() if self._replay is None else {"name": "stacked, recorded"}

    def _iterate(self) -> None:
        """Make a step from and to memory that stays where it is."""
        torch.stack(super().iterate(self._tokens), out=self._answer)
