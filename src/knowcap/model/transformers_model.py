"""A replicate as a model of `transformers`: GPT-NeoX, LLaMA, Mistral or Mixtral.

The models of `transformers` rotate channels half a head apart, knowcap rotates neighbours, so the
channels of queries and keys are in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from knowcap.artifacts.optional_library import import_transformers
from knowcap.config import Architecture
from knowcap.config.options import Options, any_value, refuse, unimplemented
from knowcap.errors import UserError
from knowcap.model.megatron_config import NORM_EPSILON
from knowcap.model.num_params import ffn_hidden_size

State = dict[str, Tensor]

MAX_POSITIONS = 2048
"""Smallest context length in a configuration."""

LINEAR_LAYERS = ("linear_fc1", "linear_fc2")


OPTIONS: Options = {
    **any_value(
        "architecture",
        *("family", "num_layers", "num_attention_heads", "kv_channels", "num_query_groups"),
        *("rotary_percent", "rotary_base", "init_method_std", "tied", "gated"),
        *("add_bias", "mlp_weights", "num_moe_experts", "moe_router_topk"),
        *("moe_expert_capacity_factor", "moe_eval_capacity_factor", "moe_aux_loss_coeff"),
    ),
    "architecture.activation": frozenset({"gelu", "silu"}),
    "architecture.normalization": frozenset({"LayerNorm", "RMSNorm"}),
}
"""Options of an architecture that are read here; each class requires some values of them."""


class _Counterpart(NamedTuple):
    """A class of `transformers`, and the architectures that it has."""

    name: str
    """Name of the class without `ForCausalLM`."""
    requirements: Mapping[str, tuple[Callable[[Architecture], bool], str]]
    """By field: whether its value has a counterpart, and the values that have one."""
    settings: Callable[[Architecture], dict[str, Any]]
    """Fields of the configuration beside those that all classes share."""
    state: Callable[[State, Architecture], State]
    """State dict, given that of Megatron."""


def to_transformers(
    state: State, architecture: Architecture, vocab_size: int, max_positions: int
) -> Any:
    """Return a model of `transformers` with the same logits.

    Parameters
    ----------
    state
        One replicate, as :meth:`knowcap.model.stacked_model.StackedModel.unstack` returns it.
    architecture, vocab_size
        Its shape.
    max_positions
        Tokens of a training window. The rotary embedding itself has no limit.

    Raises
    ------
    UserError
        If no class has this architecture, with the fields that have no counterpart; or if
        `transformers` is not installed.
    """
    counterpart = find_counterpart(architecture)
    transformers = import_transformers("export")
    config = getattr(transformers, f"{counterpart.name}Config")(
        vocab_size=vocab_size,
        hidden_size=architecture.hidden_size,
        intermediate_size=ffn_hidden_size(architecture),
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_attention_heads,
        hidden_act=architecture.activation,
        tie_word_embeddings=architecture.tied,
        max_position_embeddings=max(MAX_POSITIONS, max_positions),
        bos_token_id=0,
        eos_token_id=0,
        **counterpart.settings(architecture),
    )
    model = getattr(transformers, f"{counterpart.name}ForCausalLM")(config)
    model.load_state_dict(counterpart.state(state, architecture), strict=True)
    return model.eval()


def find_counterpart(architecture: Architecture) -> _Counterpart:
    """Return the class of `transformers` that has an architecture.

    Raises
    ------
    UserError
        If there is none, with the fields that differ from the most similar class.
    """
    refuse(unimplemented(architecture, OPTIONS, "architecture."), "by `knowcap export`")
    if architecture.num_moe_experts:
        names = ["Mixtral"]
    elif architecture.normalization == "LayerNorm":
        names = ["GPTNeoX"]
    else:
        names = ["Mistral", "Llama"] if architecture.family == "Mistral" else ["Llama"]
    for name in names:
        counterpart = COUNTERPARTS[name]
        problems = [
            f"{field}: {getattr(architecture, field)!r} (allowed: {allowed})"
            for field, (is_allowed, allowed) in counterpart.requirements.items()
            if not is_allowed(architecture)
        ]
        if not problems:
            return counterpart
    raise UserError(
        f"{architecture.label}: no counterpart in transformers' {name}ForCausalLM for "
        f"{', '.join(problems)}"
    )


def _reorder_channels(channels: Tensor, architecture: Architecture) -> Tensor:
    """Channels, dimension 1, in the order of transformers."""
    pairs = channels[:, : architecture.rotary_dim].unflatten(1, (-1, 2))
    halves = pairs.transpose(1, 2).flatten(1, 2)
    return torch.cat((halves, channels[:, architecture.rotary_dim :]), 1)


def _split_qkv(qkv: Tensor, architecture: Architecture) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, [heads, channels, ...] each, in the order of transformers."""
    shared = architecture.num_attention_heads // architecture.num_kv_heads
    by_head = qkv.unflatten(0, (architecture.num_kv_heads, shared + 2, architecture.kv_channels))
    queries = by_head[:, :shared].flatten(0, 1)
    return (
        _reorder_channels(queries, architecture),
        _reorder_channels(by_head[:, shared], architecture),
        by_head[:, shared + 1],
    )


def _llama_state(state: State, architecture: Architecture) -> State:
    """State dict of a LLaMA, Mistral or Mixtral."""
    table = state["embedding.word_embeddings.weight"]
    found = {
        "model.embed_tokens.weight": table,
        "model.norm.weight": state["decoder.final_layernorm.weight"],
        "lm_head.weight": table if architecture.tied else state["output_layer.weight"],
    }
    parts = ("weight", "bias") if architecture.add_bias else ("weight",)
    for layer in range(architecture.num_layers):
        prefix, target = f"decoder.layers.{layer}", f"model.layers.{layer}"
        found |= {
            f"{target}.input_layernorm.weight": state[f"{prefix}.input_layernorm.weight"],
            f"{target}.post_attention_layernorm.weight": state[
                f"{prefix}.pre_mlp_layernorm.weight"
            ],
        }
        for part in parts:
            attention = f"{prefix}.self_attention"
            qkv = _split_qkv(state[f"{attention}.linear_qkv.{part}"], architecture)
            for letter, value in zip("qkv", qkv, strict=True):
                found[f"{target}.self_attn.{letter}_proj.{part}"] = value.flatten(0, 1)
            found[f"{target}.self_attn.o_proj.{part}"] = state[f"{attention}.linear_proj.{part}"]
            if architecture.num_moe_experts:
                continue
            fc1, fc2 = (state[f"{prefix}.mlp.{fc}.{part}"] for fc in LINEAR_LAYERS)
            gate, up = fc1.chunk(2)
            mlp = {"gate_proj": gate, "up_proj": up, "down_proj": fc2}
            found |= {f"{target}.mlp.{name}.{part}": value for name, value in mlp.items()}
        if architecture.num_moe_experts:
            found |= _mixtral_experts(state, architecture, prefix, target)
    return found


def _mixtral_experts(state: State, architecture: Architecture, prefix: str, target: str) -> State:
    """Router and experts of a layer of Mixtral."""
    fc1, fc2 = (
        torch.stack(
            [
                state[f"{prefix}.mlp.experts.local_experts.{expert}.{fc}.weight"]
                for expert in range(architecture.num_moe_experts)
            ]
        )
        for fc in LINEAR_LAYERS
    )
    return {
        f"{target}.mlp.gate.weight": state[f"{prefix}.mlp.router.weight"],
        f"{target}.mlp.experts.gate_up_proj": fc1,
        f"{target}.mlp.experts.down_proj": fc2,
    }


def _neox_state(state: State, architecture: Architecture) -> State:
    """State dict of a GPT-NeoX without parallel residuals, a GPT2 with rotary embedding."""
    table = state["embedding.word_embeddings.weight"]
    found = {
        "gpt_neox.embed_in.weight": table,
        "lm_head.weight": table if architecture.tied else state["output_layer.weight"],
    }
    names = {
        "input_layernorm": "input_layernorm",
        "self_attention.linear_proj": "attention.dense",
        "pre_mlp_layernorm": "post_attention_layernorm",
        "mlp.linear_fc1": "mlp.dense_h_to_4h",
        "mlp.linear_fc2": "mlp.dense_4h_to_h",
    }
    for part in ("weight", "bias"):
        found[f"gpt_neox.final_layer_norm.{part}"] = state[f"decoder.final_layernorm.{part}"]
        for layer in range(architecture.num_layers):
            prefix, target = f"decoder.layers.{layer}", f"gpt_neox.layers.{layer}"
            qkv = state[f"{prefix}.self_attention.linear_qkv.{part}"]
            by_head = torch.stack(_split_qkv(qkv, architecture), 1)
            found[f"{target}.attention.query_key_value.{part}"] = by_head.flatten(0, 2)
            for name, target_name in names.items():
                found[f"{target}.{target_name}.{part}"] = state[f"{prefix}.{name}.{part}"]
    return found


def _rope(architecture: Architecture, **more: Any) -> dict[str, Any]:
    """Configuration of the rotary embedding."""
    base = float(architecture.rotary_base)
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base, **more}}


def _neox_settings(architecture: Architecture) -> dict[str, Any]:
    return {
        "use_parallel_residual": False,
        "layer_norm_eps": NORM_EPSILON,
        **_rope(architecture, partial_rotary_factor=architecture.rotary_percent),
    }


def _mistral_settings(architecture: Architecture) -> dict[str, Any]:
    return {
        "num_key_value_heads": architecture.num_kv_heads,
        "rms_norm_eps": NORM_EPSILON,
        "sliding_window": None,
        **_rope(architecture),
    }


def _llama_settings(architecture: Architecture) -> dict[str, Any]:
    return {
        "num_key_value_heads": architecture.num_kv_heads,
        "rms_norm_eps": NORM_EPSILON,
        "attention_bias": architecture.add_bias,
        "mlp_bias": architecture.add_bias,
        **_rope(architecture),
    }


def _mixtral_settings(architecture: Architecture) -> dict[str, Any]:
    return {
        **_mistral_settings(architecture),
        "num_local_experts": architecture.num_moe_experts,
        "num_experts_per_tok": architecture.moe_router_topk,
    }


_NEOX_REQUIREMENTS: Mapping[str, tuple[Callable[[Architecture], bool], str]] = {
    "gated": (lambda a: not a.gated, "False"),
    "add_bias": (lambda a: a.add_bias, "True"),
    "num_query_groups": (
        lambda a: a.num_kv_heads == a.num_attention_heads,
        "num_attention_heads",
    ),
    "mlp_weights": (lambda a: a.mlp_weights > 0, "more than 0"),
}
_LLAMA_REQUIREMENTS: Mapping[str, tuple[Callable[[Architecture], bool], str]] = {
    "gated": (lambda a: a.gated, "True"),
    "normalization": (lambda a: a.normalization == "RMSNorm", "RMSNorm"),
    "rotary_percent": (lambda a: a.rotary_percent == 1, "1.0"),
    "mlp_weights": (lambda a: a.mlp_weights > 0, "more than 0"),
}
_MISTRAL_REQUIREMENTS: Mapping[str, tuple[Callable[[Architecture], bool], str]] = {
    **_LLAMA_REQUIREMENTS,
    "add_bias": (lambda a: not a.add_bias, "False"),
}
# Mixtral weights a single expert by 1, knowcap by its probability. It drops no tokens.
_MIXTRAL_REQUIREMENTS: Mapping[str, tuple[Callable[[Architecture], bool], str]] = {
    **_MISTRAL_REQUIREMENTS,
    "moe_router_topk": (lambda a: (a.moe_router_topk or 0) > 1, "2 or more"),
    "moe_eval_capacity_factor": (lambda a: a.moe_eval_capacity_factor is None, "None"),
}

COUNTERPARTS: Mapping[str, _Counterpart] = {
    each.name: each
    for each in (
        _Counterpart("GPTNeoX", _NEOX_REQUIREMENTS, _neox_settings, _neox_state),
        _Counterpart("Llama", _LLAMA_REQUIREMENTS, _llama_settings, _llama_state),
        _Counterpart("Mistral", _MISTRAL_REQUIREMENTS, _mistral_settings, _llama_state),
        _Counterpart("Mixtral", _MIXTRAL_REQUIREMENTS, _mixtral_settings, _llama_state),
    )
}
"""Classes of `transformers` by name."""
