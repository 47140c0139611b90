"""A group of replicates in the lanes of vectors: their numbers in memory, and the calls of C.

Shapes: R replicates of the group, B windows, S positions, P parameters, L lanes.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from knowcap.compiled import abilities, library, pointer
from knowcap.config import Architecture, Run
from knowcap.lm.model.architecture import NORM_EPSILON
from knowcap.lm.model.rotary import angles
from knowcap.lm.model.stacked import StackedModel
from knowcap.size import ffn_hidden_size

SOURCE = Path(__file__).with_name("engine.c")

_PARAMETERS = (
    "input_layernorm.weight",
    "input_layernorm.bias",
    "self_attention.linear_qkv.weight",
    "self_attention.linear_qkv.bias",
    "self_attention.linear_proj.weight",
    "self_attention.linear_proj.bias",
    "pre_mlp_layernorm.weight",
    "pre_mlp_layernorm.bias",
    *("{mlp}.linear_fc1.weight", "{mlp}.linear_fc1.bias"),
    *("{mlp}.linear_fc2.weight", "{mlp}.linear_fc2.bias"),
    *("mlp.router.weight", "mlp.router.bias"),
)
"""Parameters of a layer, in the order of the C code's `LayerPlaces`."""

Float32 = NDArray[np.float32]


class _Shape(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                *("num_layers", "width", "num_heads", "num_kv_heads", "num_channels"),
                *("num_pairs", "inner", "vocab_size", "seq_length", "num_sequences"),
                *("is_gated", "is_silu", "is_layernorm", "num_experts", "topk"),
            )
        ),
        *((name, ctypes.c_float) for name in ("eps", "aux_loss_coeff", "capacity_factor")),
    )


class _Optimizer(ctypes.Structure):
    _fields_ = (
        ("num_params", ctypes.c_int64),
        ("num_decayed", ctypes.c_int64),
        *((name, ctypes.c_float) for name in ("beta1", "beta2", "eps", "clip_grad")),
    )


def compiled(num_lanes: int, dtype: str) -> ctypes.CDLL | None:
    """Load the C code for groups of so many lanes and products in a dtype.

    None where it cannot be compiled, which of bfloat16 is on processors that do not multiply in it.
    """
    if dtype == "float32":
        return library(SOURCE, (f"LANES={num_lanes}",))
    if num_lanes == 1 and "avx512_bf16" in abilities():
        return library(SOURCE, ("LANES=1", "BFLOAT16"))
    return None


def num_workspace_bytes(run: Run, vocab_size: int, lanes: list[int]) -> int:
    """Memory that groups of so many lanes work in, beside parameters, gradients and moments."""
    shape, dtype = (
        _shape(run, vocab_size, run.optimization.global_batch_size),
        run.optimization.dtype,
    )
    return 4 * sum(
        num_lanes * _num_vectors(_loaded(num_lanes, dtype), shape) for num_lanes in lanes
    )


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
    num_lanes, num_parts
        Of the group, and of its windows.
    """

    def __init__(
        self,
        model: StackedModel,
        run: Run,
        columns: dict[str, tuple[int, torch.Size]],
        members: slice,
        num_lanes: int,
        num_parts: int,
    ) -> None:
        rows_RP = model.flat[members]
        self.members = members
        self.num_replicates, num_params = rows_RP.shape
        self.parameters, self.exp_avg, self.exp_avg_sq = (
            torch.zeros(num_params, num_lanes) for _ in range(3)
        )
        self.parameters[:, : self.num_replicates] = rows_RP.T
        settings = run.optimization
        optimizer = _Optimizer(
            *(num_params, model.num_decayed),
            *(settings.adam_beta1, settings.adam_beta2, settings.adam_eps, settings.clip_grad),
        )
        windows = np.array_split(np.arange(settings.global_batch_size), num_parts)
        self._results = np.zeros((2, num_parts, num_lanes), dtype=np.float32)
        self.parts = [
            Part(self, run, columns, optimizer, slice(its[0], its[-1] + 1), self._results[:, part])
            for part, its in enumerate(windows)
        ]
        gradients = (ctypes.c_void_p * num_parts)(
            *(part.gradient.data_ptr() for part in self.parts)
        )
        self._scalars = np.zeros((4, num_lanes), dtype=np.float32)
        self._lr, self._decay, self._loss, self._norm = self._scalars
        moments = (self.exp_avg, self.exp_avg_sq)
        self._kept = (optimizer, gradients)
        self._call = _loaded(num_lanes, settings.dtype).update
        self._before = (
            *(ctypes.byref(optimizer), ctypes.c_int64(num_parts), gradients),
            *(pointer(self._results[0]), pointer(self._results[1])),
            *(pointer(self._lr), pointer(self._decay)),
        )
        self._after = (
            *(ctypes.c_void_p(buffer.data_ptr()) for buffer in (self.parameters, *moments)),
            *(pointer(self._loss), pointer(self._norm)),
        )

    def update(
        self, lr_R: Float32, decay_R: Float32, corrections: list[ctypes.c_float]
    ) -> tuple[Float32, Float32]:
        """Go along the gradients of all parts; losses and norms of gradients."""
        used = self.num_replicates
        self._lr[:used] = lr_R
        self._decay[:used] = decay_R
        self._call(*self._before, *corrections, *self._after)
        return self._loss[:used], self._norm[:used]

    def loads(self) -> Tensor:
        """Shares of the last step's choices by layer and expert, and last of those dropped."""
        return self.parts[0].loads.permute(2, 0, 1)[: self.num_replicates]


class Part:
    """Some windows of a group's, and the gradients of its parameters by their losses.

    Parameters
    ----------
    group, run, columns, optimizer
        The group, and what it was made of.
    windows
        Of a step's.
    results
        Gets the windows' mean losses and the numbers of targets that these are means of, [2, L].
    """

    def __init__(
        self,
        group: Group,
        run: Run,
        columns: dict[str, tuple[int, torch.Size]],
        optimizer: _Optimizer,
        windows: slice,
        results: Float32,
    ) -> None:
        self._members, self._windows, self._used = group.members, windows, group.num_replicates
        architecture, seq_length = run.architecture, run.optimization.seq_length
        num_lanes, num_windows = group.parameters.shape[1], windows.stop - windows.start
        vocab_size = columns["embedding.word_embeddings.weight"][1][0]
        shape = _shape(run, vocab_size, num_windows)
        turns = _turns(architecture, seq_length)
        loaded = _loaded(num_lanes, run.optimization.dtype)
        workspace = torch.empty(_num_vectors(loaded, shape), num_lanes)
        self.gradient = torch.zeros_like(group.parameters)
        self.loads = torch.zeros(
            architecture.num_layers, architecture.num_moe_experts + 1, num_lanes
        )
        self._tokens = np.full((num_lanes, num_windows, seq_length + 1), -1, dtype=np.int32)
        constant = (shape, *_places(columns, architecture), optimizer)
        buffers = (group.parameters, self.gradient, workspace, self.loads)
        self._kept = (*constant, turns, workspace)
        self._call = loaded.gradients
        self._arguments = (
            *map(ctypes.byref, constant),
            *map(pointer, (turns, self._tokens)),
            *(ctypes.c_void_p(buffer.data_ptr()) for buffer in buffers),
            *map(pointer, results),
        )

    def differentiate(self, tokens_RBS1: NDArray[np.int32]) -> None:
        """Compute the gradients."""
        self._tokens[: self._used] = tokens_RBS1[self._members, self._windows]
        self._call(*self._arguments)


def _shape(run: Run, vocab_size: int, num_windows: int) -> _Shape:
    """Sizes of a model and of a step with so many windows."""
    architecture, optimization = run.architecture, run.optimization
    return _Shape(
        *(architecture.num_layers, architecture.hidden_size, architecture.num_attention_heads),
        *(architecture.num_kv_heads, architecture.kv_channels, architecture.rotary_dim // 2),
        *(ffn_hidden_size(architecture), vocab_size),
        *(optimization.seq_length, num_windows),
        *(architecture.gated, architecture.activation == "silu"),
        *(architecture.normalization == "LayerNorm", architecture.num_moe_experts),
        *(architecture.moe_router_topk or 0, NORM_EPSILON),
        *(architecture.moe_aux_loss_coeff or 0, architecture.moe_expert_capacity_factor or 0),
    )


def _places(
    columns: dict[str, tuple[int, torch.Size]], architecture: Architecture
) -> tuple[Any, ...]:
    """Where each layer's parameters begin, and those around the layers; -1 for none."""
    mlp = "mlp.experts" if architecture.num_moe_experts else "mlp"
    parts = [part.format(mlp=mlp) for part in _PARAMETERS]

    def first(name: str, otherwise: int = -1) -> int:
        return columns[name][0] if name in columns else otherwise

    layers = [
        first(f"decoder.layers.{number}.{part}")
        for number in range(architecture.num_layers)
        for part in parts
    ]
    embedding = first("embedding.word_embeddings.weight")
    norm = (first(f"decoder.final_layernorm.{part}") for part in ("weight", "bias"))
    around = [embedding, first("output_layer.weight", embedding), *norm]
    return tuple((ctypes.c_int64 * len(places))(*places) for places in (layers, around))


def _turns(architecture: Architecture, seq_length: int) -> Float32:
    """Cosine and sine of each pair of channels at each position, [S, pairs, 2]."""
    turned = angles(architecture, seq_length).numpy()
    return np.stack((np.cos(turned), np.sin(turned)), -1).astype(np.float32)


def _loaded(num_lanes: int, dtype: str) -> ctypes.CDLL:
    loaded = compiled(num_lanes, dtype)
    assert loaded is not None
    return loaded


def _num_vectors(loaded: ctypes.CDLL, shape: _Shape) -> int:
    """Vectors that a step works in."""
    loaded.workspace_size.restype = ctypes.c_int64
    return int(loaded.workspace_size(ctypes.byref(shape)))
