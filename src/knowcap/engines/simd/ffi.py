"""What the C code is told of a run: sizes, and where parameters are.

Shapes: S positions.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from knowcap.artifacts.c_extension import abilities, library
from knowcap.config import Architecture, Run
from knowcap.model.megatron_config import NORM_EPSILON
from knowcap.model.num_params import ffn_hidden_size
from knowcap.model.rotary import angles

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


class Shape(ctypes.Structure):
    """Sizes of a model and of its step."""

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


class Optimizer(ctypes.Structure):
    """Numbers of parameters, and the settings of AdamW."""

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
    shape = shape_of(run, vocab_size, run.optimization.global_batch_size)
    codes = {num_lanes: loaded(num_lanes, run.optimization.dtype) for num_lanes in lanes}
    return 4 * sum(num_lanes * num_vectors(codes[num_lanes], shape) for num_lanes in lanes)


def shape_of(run: Run, vocab_size: int, num_windows: int) -> Shape:
    """Sizes of a model and of a step with so many windows."""
    architecture, optimization = run.architecture, run.optimization
    return Shape(
        *(architecture.num_layers, architecture.hidden_size, architecture.num_attention_heads),
        *(architecture.num_kv_heads, architecture.kv_channels, architecture.rotary_dim // 2),
        *(ffn_hidden_size(architecture), vocab_size),
        *(optimization.seq_length, num_windows),
        *(architecture.gated, architecture.activation == "silu"),
        *(architecture.normalization == "LayerNorm", architecture.num_moe_experts),
        *(architecture.moe_router_topk or 0, NORM_EPSILON),
        *(architecture.moe_aux_loss_coeff or 0, architecture.moe_expert_capacity_factor or 0),
    )


def places_of(
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


def turns_of(architecture: Architecture, seq_length: int) -> Float32:
    """Cosine and sine of each pair of channels at each position, [S, pairs, 2]."""
    turned = angles(architecture, seq_length).numpy()
    return np.stack((np.cos(turned), np.sin(turned)), -1).astype(np.float32)


def loaded(num_lanes: int, dtype: str) -> ctypes.CDLL:
    """Give the C code that :func:`compiled` has found."""
    found = compiled(num_lanes, dtype)
    assert found is not None
    return found


def num_vectors(code: ctypes.CDLL, shape: Shape) -> int:
    """Vectors that a step works in."""
    code.workspace_size.restype = ctypes.c_int64
    return int(code.workspace_size(ctypes.byref(shape)))
