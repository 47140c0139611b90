"""A group of replicates in the lanes of vectors: their numbers in memory, and what is done to them.

Shapes: R replicates of the group, B windows, S positions, P parameters, L lanes.
"""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from knowcap.artifacts.c_extension import pointer
from knowcap.config import Run
from knowcap.engines.simd.ffi import (
    Float32,
    Optimizer,
    loaded,
    num_vectors,
    places_of,
    shape_of,
    turns_of,
)
from knowcap.model.stacked_model import StackedModel

BLOCK = 256
"""Parameters whose squares the C code adds up by themselves: shares consist of such."""

Corrections = list[ctypes.c_float]
"""Of the moments of an iteration for their start at zero."""


class Group:
    """As many replicates as there are lanes, or fewer: in a lane left over nothing is learnt.

    Parameters
    ----------
    model
        Gives the initial weights.
    run
        What is trained.
    columns
        Where in a row of P each named parameter begins, and its shape.
    members
        Of the run's replicates.
    num_lanes, num_parts, num_shares
        Of the group, of its windows, and of its parameters.
    """

    def __init__(
        self,
        model: StackedModel,
        run: Run,
        columns: dict[str, tuple[int, torch.Size]],
        members: slice,
        *,
        num_lanes: int,
        num_parts: int,
        num_shares: int,
    ) -> None:
        rows_RP = model.flat[members]
        self.members = members
        self.num_replicates, num_params = rows_RP.shape
        self.parameters, self.exp_avg, self.exp_avg_sq = (
            torch.zeros(num_params, num_lanes) for _ in range(3)
        )
        self.parameters[:, : self.num_replicates] = rows_RP.T
        settings = run.optimization
        self.optimizer = Optimizer(
            *(num_params, model.num_decayed),
            *(settings.adam_beta1, settings.adam_beta2, settings.adam_eps, settings.clip_grad),
        )
        self.code = loaded(num_lanes, settings.dtype)
        windows = np.array_split(np.arange(settings.global_batch_size), num_parts)
        self.part_loss, self.part_count = np.zeros((2, num_parts, num_lanes), dtype=np.float32)
        self.parts = [
            Part(self, run, columns, slice(its[0], its[-1] + 1), number)
            for number, its in enumerate(windows)
        ]
        self.gradients = (ctypes.c_void_p * num_parts)(
            *(part.gradient.data_ptr() for part in self.parts)
        )
        self.lr, self.decay = np.zeros((2, num_lanes), dtype=np.float32)
        self.square = np.zeros((num_shares, num_lanes), dtype=np.float32)
        blocks = np.array_split(np.arange(-(-num_params // BLOCK)), num_shares)
        ends = [*(BLOCK * int(its[0]) for its in blocks if len(its)), num_params]
        self.shares = [
            Share(self, first, last, number)
            for number, (first, last) in enumerate(itertools.pairwise(ends))
        ]

    def prepare(self, lr_R: Float32, decay_R: Float32) -> None:
        """Take the learning rates of a step, and what weights are multiplied by for decay."""
        self.lr[: self.num_replicates] = lr_R
        self.decay[: self.num_replicates] = decay_R

    def results(self) -> tuple[Float32, Float32]:
        """Mean losses before the last step, and norms of its gradients before clipping, [R]."""
        loss, norm = self.shares[0].results
        return loss[: self.num_replicates], norm[: self.num_replicates]

    def loads(self) -> Tensor:
        """Shares of the last step's choices by layer and expert, and last of those dropped."""
        return self.parts[0].loads.permute(2, 0, 1)[: self.num_replicates]


class Share:
    """Some of a group's parameters, which one thread brings forward.

    Parameters
    ----------
    group
        Whose they are.
    first, last
        Where they begin and end in P.
    number
        Of the group's shares.
    """

    def __init__(self, group: Group, first: int, last: int, number: int) -> None:
        self.results = np.zeros((2, group.lr.size), dtype=np.float32)
        loss, norm = map(pointer, self.results)
        optimizer, rates = ctypes.byref(group.optimizer), (pointer(group.lr), pointer(group.decay))
        num_parts, num_shares, *ends = map(
            ctypes.c_int64, (len(group.parts), len(group.square), first, last)
        )
        of_parts = (num_parts, group.gradients, pointer(group.part_loss), pointer(group.part_count))
        parameters, gradient, *moments = (
            ctypes.c_void_p(buffer.data_ptr())
            for buffer in (
                *(group.parameters, group.parts[0].gradient),
                *(group.exp_avg, group.exp_avg_sq),
            )
        )
        self._code = group.code
        self._to_add_up = (*of_parts, *ends, loss, pointer(group.square[number]))
        self._to_go_along = (
            (optimizer, *ends, num_shares, pointer(group.square), *rates),
            (parameters, gradient, *moments, norm),
        )
        self._to_update = ((optimizer, *of_parts, *rates), (parameters, *moments, loss, norm))

    def add_up(self) -> None:
        """Add up gradients by all parts of the windows, and their squares."""
        self._code.add_up(*self._to_add_up)

    def go_along(self, corrections: Corrections) -> None:
        """Go along the gradients, once those of all shares are added up."""
        before, after = self._to_go_along
        self._code.go_along(*before, *corrections, *after)

    def update(self, corrections: Corrections) -> None:
        """Do both, of a group's only share."""
        before, after = self._to_update
        self._code.update(*before, *corrections, *after)


class Part:
    """Some windows of a group's, and the gradients of its parameters by their losses.

    Parameters
    ----------
    group, run, columns
        The group, and what it is made of.
    windows
        Of a step's.
    number
        Of the group's parts. There the windows' mean losses go, and the numbers of targets that
        these are means of, [L].
    """

    def __init__(
        self,
        group: Group,
        run: Run,
        columns: dict[str, tuple[int, torch.Size]],
        windows: slice,
        number: int,
    ) -> None:
        self._members, self._windows, self._used = group.members, windows, group.num_replicates
        architecture, seq_length = run.architecture, run.optimization.seq_length
        num_lanes, num_windows = group.parameters.shape[1], windows.stop - windows.start
        vocab_size = columns["embedding.word_embeddings.weight"][1][0]
        shape = shape_of(run, vocab_size, num_windows)
        turns = turns_of(architecture, seq_length)
        workspace = torch.empty(num_vectors(group.code, shape), num_lanes)
        self.gradient = torch.zeros_like(group.parameters)
        self.loads = torch.zeros(
            architecture.num_layers, architecture.num_moe_experts + 1, num_lanes
        )
        self._tokens = np.full((num_lanes, num_windows, seq_length + 1), -1, dtype=np.int32)
        constant = (shape, *places_of(columns, architecture), group.optimizer)
        buffers = (group.parameters, self.gradient, workspace, self.loads)
        self._kept = (*constant, turns, workspace)
        self._call = group.code.gradients
        self._arguments = (
            *map(ctypes.byref, constant),
            *map(pointer, (turns, self._tokens)),
            *(ctypes.c_void_p(buffer.data_ptr()) for buffer in buffers),
            pointer(group.part_loss[number]),
            pointer(group.part_count[number]),
        )

    def differentiate(self, tokens_RBS1: NDArray[np.int32]) -> None:
        """Compute the gradients."""
        self._tokens[: self._used] = tokens_RBS1[self._members, self._windows]
        self._call(*self._arguments)
