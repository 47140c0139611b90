"""ctypes interface of the C code: structs, offsets of parameters, the rotary table.

Shapes: S positions of a window.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from knowcap.artifacts.c_extension import cpu_flags, load_c_extension
from knowcap.config import Architecture, Run
from knowcap.model.megatron_config import NORM_EPSILON
from knowcap.model.num_params import ffn_hidden_size
from knowcap.model.rotary import rotary_angles

SOURCE = Path(__file__).with_name("train_step.c")

ACTIVATIONS = {"gelu": 0, "silu": 1}
"""Activations that the C code computes, and the value of `is_silu` for each."""

NORMALIZATIONS = {"RMSNorm": 0, "LayerNorm": 1}
"""Normalizations that the C code computes, and the value of `is_layernorm` for each."""

_EMBEDDING, _OUTPUT = "embedding.word_embeddings.weight", "output_layer.weight"
_FINAL_NORM = ("decoder.final_layernorm.weight", "decoder.final_layernorm.bias")

_LAYER_PARAMETERS = (
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
"""Parameters of a layer, in the order of `LayerParamOffsets` in shape.h."""

Float32 = NDArray[np.float32]

Columns = dict[str, tuple[int, torch.Size]]
"""Offset of each named parameter in a replicate's flat buffer of P numbers, and its shape."""


class StepShape(ctypes.Structure):
    """Sizes of a model and of its step, as in shape.h."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                *("num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_dim"),
                *("num_rotary_pairs", "ffn_hidden_size", "vocab_size", "seq_length"),
                *("num_windows", "is_gated", "is_silu", "is_layernorm", "num_experts", "topk"),
            )
        ),
        *((name, ctypes.c_float) for name in ("eps", "aux_loss_coeff", "capacity_factor")),
    )


class AdamWConfig(ctypes.Structure):
    """Numbers of parameters, and settings of AdamW, as in adamw.h."""

    _fields_ = (
        ("num_params", ctypes.c_int64),
        ("num_decayed", ctypes.c_int64),
        *((name, ctypes.c_float) for name in ("beta1", "beta2", "eps", "clip_grad")),
    )


def find_library(num_lanes: int, dtype: str) -> ctypes.CDLL | None:
    """Return the C code for a number of lanes and a dtype of products, or None.

    None without a C compiler, and for bfloat16 unless `num_lanes` is 1 and the processor has
    AVX-512 BF16.
    """
    if dtype == "float32":
        return load_c_extension(SOURCE, (f"LANES={num_lanes}",))
    if dtype == "bfloat16" and num_lanes == 1 and "avx512_bf16" in cpu_flags():
        return load_c_extension(SOURCE, ("LANES=1", "BFLOAT16"))
    return None


def load_library(num_lanes: int, dtype: str) -> ctypes.CDLL:
    """Return the C code that :func:`find_library` has found before."""
    found = find_library(num_lanes, dtype)
    assert found is not None
    return found


def workspace_bytes(run: Run, vocab_size: int, lanes: list[int]) -> int:
    """Return the size of the workspaces of groups with these numbers of lanes, in bytes."""
    shape = step_shape(run, vocab_size, run.optimization.global_batch_size)
    codes = {num_lanes: load_library(num_lanes, run.optimization.dtype) for num_lanes in lanes}
    return 4 * sum(num_lanes * workspace_size(codes[num_lanes], shape) for num_lanes in lanes)


def workspace_size(code: ctypes.CDLL, shape: StepShape) -> int:
    """Return the number of vecs, of one float per lane, in the workspace of a step."""
    code.workspace_size.restype = ctypes.c_int64
    return int(code.workspace_size(ctypes.byref(shape)))


def step_shape(run: Run, vocab_size: int, num_windows: int) -> StepShape:
    """Return the sizes of a model and of a step with a number of windows."""
    architecture, optimization = run.architecture, run.optimization
    return StepShape(
        *(architecture.num_layers, architecture.hidden_size, architecture.num_attention_heads),
        *(architecture.num_kv_heads, architecture.kv_channels, architecture.rotary_dim // 2),
        *(ffn_hidden_size(architecture), vocab_size),
        *(optimization.seq_length, num_windows),
        *(architecture.gated, ACTIVATIONS[architecture.activation]),
        *(NORMALIZATIONS[architecture.normalization], architecture.num_moe_experts),
        *(architecture.moe_router_topk or 0, NORM_EPSILON),
        *(architecture.moe_aux_loss_coeff or 0, architecture.moe_expert_capacity_factor or 0),
    )


def param_offsets(columns: Columns, architecture: Architecture) -> tuple[Any, ...]:
    """Return the offsets of the layers' parameters and of the others; -1 for absent ones."""
    unknown = columns.keys() - parameter_names(architecture)
    assert not unknown, f"the C code does not train {sorted(unknown)}"

    def offset(name: str, default: int = -1) -> int:
        return columns[name][0] if name in columns else default

    layers = [offset(name) for name in _layer_parameters(architecture)]
    embedding = offset(_EMBEDDING)
    others = [embedding, offset(_OUTPUT, embedding), *map(offset, _FINAL_NORM)]
    return tuple((ctypes.c_int64 * len(offsets))(*offsets) for offsets in (layers, others))


def parameter_names(architecture: Architecture) -> frozenset[str]:
    """Return the names of all parameters that the C code can train."""
    return frozenset((*_layer_parameters(architecture), _EMBEDDING, _OUTPUT, *_FINAL_NORM))


def _layer_parameters(architecture: Architecture) -> list[str]:
    """Return the names of all parameters that layers may have, layer by layer."""
    mlp = "mlp.experts" if architecture.num_moe_experts else "mlp"
    return [
        f"decoder.layers.{layer}.{name.format(mlp=mlp)}"
        for layer in range(architecture.num_layers)
        for name in _LAYER_PARAMETERS
    ]


def rotary_table(architecture: Architecture, seq_length: int) -> Float32:
    """Return cosine and sine of each pair of channels at each position, [S, pairs, 2]."""
    radians = rotary_angles(architecture, seq_length).numpy()
    return np.stack((np.cos(radians), np.sin(radians)), -1).astype(np.float32)
