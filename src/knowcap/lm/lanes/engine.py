"""Replicates of tiny models in the lanes of a CPU's vectors: a whole step is one call of C.

What `engine.c` beside this file computes is what :class:`knowcap.lm.engine.StackedEngine` computes,
up to rounding, without the hundred library calls that a step of it takes. It is for models so
small that these calls, not their arithmetic, are what one waits for.

Shapes: R replicates, B windows, S positions, P parameters, L lanes.
"""

from __future__ import annotations

import ctypes
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from knowcap.config import Architecture, Run
from knowcap.lm.engine import Step
from knowcap.lm.lanes.compiled import library
from knowcap.lm.model.architecture import NORM_EPSILON
from knowcap.lm.model.experts import rounded_loads
from knowcap.lm.model.rotary import angles
from knowcap.lm.model.stacked import StackedModel
from knowcap.lm.optimizer import learning_rate_scale
from knowcap.size import ffn_hidden_size

SOURCE = Path(__file__).with_suffix(".c")

NUM_LANES = (1, 2, 4, 8)
"""Lanes of a group, as few as hold all replicates; more replicates are several groups."""

WIDEST = 64
"""Hidden size up to which lanes are no slower than libraries' products of matrices, as measured."""

WIDEST_ALONE = 32
"""The same for a single replicate, beside which a lane is empty."""

LONGEST = 128
"""Window up to which they are."""

_PARTS = (
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


def is_for_lanes(run: Run, device: torch.device) -> bool:
    """Whether a run's replicates can train in lanes, and are so small that they should."""
    architecture, optimization = run.architecture, run.optimization
    return (
        device.type == "cpu"
        and optimization.dtype == "float32"
        and architecture.hidden_size <= (WIDEST if len(run.replicates.pairs) > 1 else WIDEST_ALONE)
        and optimization.seq_length <= LONGEST
        and library(SOURCE, ("LANES=4",)) is not None
    )


class LanesEngine:
    """Replicates in lanes. :func:`is_for_lanes` says for which runs.

    Parameters
    ----------
    model
        Gives the initial weights, and where in a row of P each parameter is.
    run
        What is trained.
    train_iters
        Steps in all.
    """

    def __init__(self, model: StackedModel, run: Run, train_iters: int) -> None:
        self._settings = run.optimization
        self._train_iters = train_iters
        self._has_experts = run.architecture.num_moe_experts > 0
        self._lr_R = np.array([lr for _, lr in run.replicates.pairs], dtype=np.float32)
        named = dict(model.named_parameters())
        self._columns = {name: (p.storage_offset(), p.shape[1:]) for name, p in named.items()}
        num_lanes = next((n for n in NUM_LANES if n >= len(self._lr_R)), NUM_LANES[-1])
        self._num_lanes = num_lanes
        self._groups = [
            _Group(model, run, self._columns, slice(first, first + num_lanes), num_lanes)
            for first in range(0, len(self._lr_R), num_lanes)
        ]
        self._pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="lanes")

    @property
    def num_bytes(self) -> int:
        """Of a checkpoint."""
        return 3 * sum(group.parameters.nbytes for group in self._groups)

    def step(self, tokens_RBS1: Tensor, iteration: int) -> Step:
        """Make one step."""
        settings = self._settings
        lr_R = self._lr_R * learning_rate_scale(settings, self._train_iters, iteration)
        corrections = [
            1 - beta ** (iteration + 1) for beta in (settings.adam_beta1, settings.adam_beta2)
        ]
        tokens = tokens_RBS1.to(torch.int32).numpy()

        def step(group: _Group) -> tuple[Float32, Float32]:
            return group.step(tokens, lr_R, 1 - settings.weight_decay * lr_R, corrections)

        if len(self._groups) == 1:
            loss, norm = step(self._groups[0])
        else:
            losses, norms = zip(*self._pool.map(step, self._groups), strict=True)
            loss, norm = np.concatenate(losses), np.concatenate(norms)
        return Step(torch.from_numpy(loss), torch.from_numpy(norm))

    def facts(self) -> dict[str, Any]:
        """Groups, and the lanes of each."""
        return {"name": "lanes", "num_lanes": self._num_lanes, "num_groups": len(self._groups)}

    def metrics(self) -> dict[str, Any]:
        """How experts share the load, if there are any."""
        if not self._has_experts:
            return {}
        loads_RLE = torch.cat([group.loads() for group in self._groups])
        return rounded_loads(loads_RLE[..., :-1], loads_RLE[..., -1])

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and moments, [R, P] each."""
        return {
            name: torch.cat(
                [getattr(group, name).T[: group.num_replicates] for group in self._groups]
            )
            for name in ("parameters", "exp_avg", "exp_avg_sq")
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore parameters and moments."""
        for group in self._groups:
            for name, values_RP in state.items():
                getattr(group, name)[:, : group.num_replicates] = values_RP[group.members].T

    def weights(self) -> dict[str, Tensor]:
        """Each named parameter."""
        flat_RP = self.state_dict()["parameters"]
        return {
            name: flat_RP[:, first : first + math.prod(shape)].reshape(-1, *shape).clone()
            for name, (first, shape) in self._columns.items()
        }


class _Group:
    """As many replicates as there are lanes, or fewer: in a lane left over nothing is learnt."""

    def __init__(
        self,
        model: StackedModel,
        run: Run,
        columns: dict[str, tuple[int, torch.Size]],
        members: slice,
        num_lanes: int,
    ) -> None:
        rows_RP = model.flat[members]
        self.members = members
        self.num_replicates = len(rows_RP)
        self.parameters, self._grad, self.exp_avg, self.exp_avg_sq = (
            torch.zeros(rows_RP.shape[1], num_lanes) for _ in range(4)
        )
        self.parameters[:, : self.num_replicates] = rows_RP.T
        loaded = library(SOURCE, (f"LANES={num_lanes}",))
        assert loaded is not None
        self._call, settings = loaded.step, run.optimization
        shape = _shape(run, columns["embedding.word_embeddings.weight"][1][0])
        loaded.workspace_size.restype = ctypes.c_int64
        workspace = torch.empty(loaded.workspace_size(ctypes.byref(shape)), num_lanes)
        optimizer = _Optimizer(
            *(rows_RP.shape[1], model.num_decayed),
            *(settings.adam_beta1, settings.adam_beta2, settings.adam_eps, settings.clip_grad),
        )
        turns = _turns(run.architecture, settings.seq_length)
        window = (settings.global_batch_size, settings.seq_length + 1)
        self._tokens = np.full((num_lanes, *window), -1, dtype=np.int32)
        self._scalars = np.zeros((4, num_lanes), dtype=np.float32)
        constant = (shape, *_places(columns, run.architecture), optimizer)
        self._kept = (*constant, turns, workspace)
        self._before = (*map(ctypes.byref, constant), _pointer(turns), _pointer(self._tokens))
        self._lr, self._decay, self._loss, self._norm = self._scalars
        self._rates = (_pointer(self._lr), _pointer(self._decay))
        self._loads = torch.zeros(
            run.architecture.num_layers, run.architecture.num_moe_experts + 1, num_lanes
        )
        moments = (self.exp_avg, self.exp_avg_sq)
        buffers = (self.parameters, self._grad, *moments, workspace, self._loads)
        self._after = (
            *(ctypes.c_void_p(buffer.data_ptr()) for buffer in buffers),
            *(_pointer(self._loss), _pointer(self._norm)),
        )

    def step(
        self,
        tokens_RBS1: NDArray[np.int32],
        lr_R: Float32,
        decay_R: Float32,
        corrections: list[float],
    ) -> tuple[Float32, Float32]:
        """Make one step of these of all replicates; their losses and norms of gradients."""
        used = self.num_replicates
        self._tokens[:used] = tokens_RBS1[self.members]
        self._lr[:used] = lr_R[self.members]
        self._decay[:used] = decay_R[self.members]
        self._call(*self._before, *self._rates, *map(ctypes.c_float, corrections), *self._after)
        return self._loss[:used].copy(), self._norm[:used].copy()

    def loads(self) -> Tensor:
        """Shares of the last step's choices by layer and expert, and last of those dropped."""
        return self._loads.permute(2, 0, 1)[: self.num_replicates]


def _shape(run: Run, vocab_size: int) -> _Shape:
    """Sizes of a model and of its step."""
    architecture, optimization = run.architecture, run.optimization
    return _Shape(
        *(architecture.num_layers, architecture.hidden_size, architecture.num_attention_heads),
        *(architecture.num_kv_heads, architecture.kv_channels, architecture.rotary_dim // 2),
        *(ffn_hidden_size(architecture), vocab_size),
        *(optimization.seq_length, optimization.global_batch_size),
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
    parts = [part.format(mlp=mlp) for part in _PARTS]

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


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
