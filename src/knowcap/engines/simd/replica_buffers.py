"""Buffers of the replicates that share SIMD vectors, and the C calls on them.

Shapes: R replicates of the group, B windows, S positions, P parameters, L lanes, E experts.
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
    AdamWConfig,
    Columns,
    Float32,
    load_library,
    param_offsets,
    rotary_table,
    step_shape,
    workspace_size,
)
from knowcap.model.stacked_model import StackedModel

BLOCK = 256
"""Parameters in a partial sum of squares in adamw.h. Shards of parameters consist of whole blocks,
so that results do not depend on their number."""

Corrections = list[ctypes.c_float]
"""Bias corrections of AdamW's first and second moment in an iteration."""


class ReplicaGroup:
    """Parameters and moments of the replicates in one set of lanes; spare lanes stay zero.

    Parameters
    ----------
    model
        Model with the initial weights.
    run
        The run to train.
    columns
        Offset and shape of each named parameter.
    members
        Slice of the run's replicates that are in this group.
    num_lanes, num_batch_shards, num_param_shards
        Number of lanes, and numbers of shards into which threads divide windows and parameters.
    """

    def __init__(
        self,
        model: StackedModel,
        run: Run,
        columns: Columns,
        members: slice,
        *,
        num_lanes: int,
        num_batch_shards: int,
        num_param_shards: int,
    ) -> None:
        rows_RP = model.flat[members]
        self.members = members
        self.num_replicates, num_params = rows_RP.shape
        self.parameters, self.exp_avg, self.exp_avg_sq = (
            torch.zeros(num_params, num_lanes) for _ in range(3)
        )
        self.parameters[:, : self.num_replicates] = rows_RP.T
        settings = run.optimization
        self.config = AdamWConfig(
            *(num_params, model.num_decayed),
            *(settings.adam_beta1, settings.adam_beta2, settings.adam_eps, settings.clip_grad),
        )
        self.code = load_library(num_lanes, settings.dtype)
        windows = np.array_split(np.arange(settings.global_batch_size), num_batch_shards)
        self.shard_loss, self.shard_count = np.zeros(
            (2, num_batch_shards, num_lanes), dtype=np.float32
        )
        self.batch_shards = [
            BatchShard(self, run, columns, slice(indices[0], indices[-1] + 1), number)
            for number, indices in enumerate(windows)
        ]
        self.gradients = (ctypes.c_void_p * num_batch_shards)(
            *(shard.gradient.data_ptr() for shard in self.batch_shards)
        )
        self.lr, self.decay = np.zeros((2, num_lanes), dtype=np.float32)
        self.square = np.zeros((num_param_shards, num_lanes), dtype=np.float32)
        blocks = np.array_split(np.arange(-(-num_params // BLOCK)), num_param_shards)
        bounds = [*(BLOCK * int(indices[0]) for indices in blocks if len(indices)), num_params]
        self.param_shards = [
            ParamShard(self, first, last, number)
            for number, (first, last) in enumerate(itertools.pairwise(bounds))
        ]

    def set_rates(self, lr_R: Float32, decay_R: Float32) -> None:
        """Set the learning rates of a step and the factors of weight decay."""
        self.lr[: self.num_replicates] = lr_R
        self.decay[: self.num_replicates] = decay_R

    def results(self) -> tuple[Float32, Float32]:
        """Return mean losses and gradient norms before clipping of the last step, [R] each."""
        loss, norm = self.param_shards[0].results
        return loss[: self.num_replicates], norm[: self.num_replicates]

    def loads(self) -> Tensor:
        """Return the shares of choices by layer and expert, then the share dropped, [R, L, E+1]."""
        return self.batch_shards[0].loads.permute(2, 0, 1)[: self.num_replicates]


class ParamShard:
    """A range of a group's parameters, which one thread updates.

    Parameters
    ----------
    group
        The group of replicates.
    first, last
        Range of the parameters in P.
    number
        Index among the group's shards of parameters.
    """

    def __init__(self, group: ReplicaGroup, first: int, last: int, number: int) -> None:
        self.results = np.zeros((2, group.lr.size), dtype=np.float32)
        loss, norm = map(pointer, self.results)
        config, rates = ctypes.byref(group.config), (pointer(group.lr), pointer(group.decay))
        num_batch_shards, num_param_shards, *bounds = map(
            ctypes.c_int64, (len(group.batch_shards), len(group.square), first, last)
        )
        gradients = (
            *(num_batch_shards, group.gradients),
            *(pointer(group.shard_loss), pointer(group.shard_count)),
        )
        parameters, gradient, *moments = (
            ctypes.c_void_p(buffer.data_ptr())
            for buffer in (
                *(group.parameters, group.batch_shards[0].gradient),
                *(group.exp_avg, group.exp_avg_sq),
            )
        )
        self._code = group.code
        self._reduce_arguments = (*gradients, *bounds, loss, pointer(group.square[number]))
        self._adamw_arguments = (
            (config, *bounds, num_param_shards, pointer(group.square), *rates),
            (parameters, gradient, *moments, norm),
        )
        self._both_arguments = ((config, *gradients, *rates), (parameters, *moments, loss, norm))

    def reduce_gradients(self) -> None:
        """Average the gradients of all batch shards, and sum their squares."""
        self._code.reduce_gradients(*self._reduce_arguments)

    def adamw_step(self, corrections: Corrections) -> None:
        """Update the parameters, after `reduce_gradients` of all shards."""
        before, after = self._adamw_arguments
        self._code.adamw_step(*before, *corrections, *after)

    def reduce_and_step(self, corrections: Corrections) -> None:
        """Reduce gradients and update the parameters of a group with one shard."""
        before, after = self._both_arguments
        self._code.reduce_and_step(*before, *corrections, *after)


class BatchShard:
    """A range of a step's windows, and the gradients of their mean loss.

    Parameters
    ----------
    group, run, columns
        The group of replicates and its run, see :class:`ReplicaGroup`.
    windows
        Slice of a step's windows.
    number
        Index among the group's shards of the batch, at which `shard_loss` and `shard_count` of the
        group receive mean losses and numbers of targets, [L] each.
    """

    def __init__(
        self,
        group: ReplicaGroup,
        run: Run,
        columns: Columns,
        windows: slice,
        number: int,
    ) -> None:
        self._members, self._windows = group.members, windows
        self._num_replicates = group.num_replicates
        architecture, seq_length = run.architecture, run.optimization.seq_length
        num_lanes, num_windows = group.parameters.shape[1], windows.stop - windows.start
        vocab_size = columns["embedding.word_embeddings.weight"][1][0]
        shape = step_shape(run, vocab_size, num_windows)
        table = rotary_table(architecture, seq_length)
        workspace = torch.empty(workspace_size(group.code, shape), num_lanes)
        self.gradient = torch.zeros_like(group.parameters)
        self.loads = torch.zeros(
            architecture.num_layers, architecture.num_moe_experts + 1, num_lanes
        )
        self._tokens = np.full((num_lanes, num_windows, seq_length + 1), -1, dtype=np.int32)
        structs = (shape, *param_offsets(columns, architecture), group.config)
        buffers = (group.parameters, self.gradient, workspace, self.loads)
        self._referenced = (*structs, table, workspace)  # C code reads them through pointers
        self._call = group.code.compute_gradients
        self._arguments = (
            *map(ctypes.byref, structs),
            *map(pointer, (table, self._tokens)),
            *(ctypes.c_void_p(buffer.data_ptr()) for buffer in buffers),
            pointer(group.shard_loss[number]),
            pointer(group.shard_count[number]),
        )

    def compute_gradients(self, tokens_RBS1: NDArray[np.int32]) -> None:
        """Compute the gradients of a step's windows."""
        self._tokens[: self._num_replicates] = tokens_RBS1[self._members, self._windows]
        self._call(*self._arguments)
