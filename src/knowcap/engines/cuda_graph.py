"""CUDA graphs: an iteration is captured once and replayed in every step.

A step of a small model is some hundred operations, which a GPU finishes faster than the host
launches them. A replayed graph launches them all at once. A graph contains addresses and constants
and cannot wait for the host, so all inputs that change between steps (tokens, learning rates, the
number of steps) and all results are in tensors at fixed addresses.

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
"""Iterations before capture, in which libraries initialize and tables are cached."""

_log = logging.getLogger(__name__)

OPTIMIZERS = frozenset({"AdamW"})
"""Optimizers whose steps can be captured: all that changes between steps is in tensors."""

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Captures the operations of a function, and returns a function that replays them. The captured
function may be called several times."""


def is_capturable(run: Run, device: torch.device) -> bool:
    """Whether a run's iterations can be captured on a device: a GPU, and static shapes.

    Without a capacity factor, the shapes of experts depend on the load of the fullest one.
    """
    architecture = run.architecture
    is_static = not architecture.num_moe_experts or architecture.moe_expert_capacity_factor
    is_known = run.optimization.optimizer in OPTIMIZERS
    return device.type == "cuda" and bool(is_static) and is_known


def capture(iterate: Callable[[], None]) -> Callable[[], None]:
    """Capture the GPU operations of a function, and return a function that replays them.

    Raises
    ------
    RuntimeError
        If they cannot be captured. The function may have been called before that.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            for _ in range(NUM_WARMUPS):
                iterate()
            # thread_local: the dataloader's thread pins memory meanwhile, outside this graph
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                iterate()
    finally:
        torch.cuda.synchronize()
    return graph.replay


class CudaGraphEngine(StackedEngine):
    """A stacked engine whose iteration is captured as a CUDA graph.

    If capture fails, it logs a warning and runs operation by operation, as the stacked engine.

    Parameters
    ----------
    model, run, train_iters
        See :class:`knowcap.engines.stacked.StackedEngine`.
    capture
        Captures a function as a graph; tests replace it on machines without a GPU.
    """

    def __init__(
        self, model: StackedModel, run: Run, train_iters: int, capture: Capture = capture
    ) -> None:
        super().__init__(model, run, train_iters)
        settings = run.optimization
        shape = (model.num_replicates, settings.global_batch_size, settings.seq_length + 1)
        # With windows of padding and before a step is scheduled, the iterations made for capture
        # change neither parameters nor moments.
        self._tokens = torch.full(shape, -1, device=model.flat.device)
        self._results = model.flat.new_zeros(len(Step._fields), model.num_replicates)
        self._replay: Callable[[], None] | None = None
        try:
            self._replay = capture(self._iterate_in_place)
        except RuntimeError as error:
            model.zero_grad(set_to_none=True)  # gradients of the interrupted iteration
            _log.warning("training without a CUDA graph, because capture failed: %s", error)

    def iterate(self, tokens_RBS1: Tensor) -> Step:
        """Make the scheduled step, by replaying the graph if there is one."""
        if self._replay is None:
            return super().iterate(tokens_RBS1)
        assert tokens_RBS1.shape == self._tokens.shape
        self._tokens.copy_(tokens_RBS1)
        self._replay()
        return Step(*self._results.clone().unbind())

    def facts(self) -> dict[str, Any]:
        """Return the engine's name; it shows whether a graph is replayed."""
        return super().facts() if self._replay is None else {"name": "cuda_graph"}

    def _iterate_in_place(self) -> None:
        """Make a step whose inputs and results are in tensors at fixed addresses."""
        torch.stack(super().iterate(self._tokens), out=self._results)
