"""Replicates equal the models of transformers with the same names.

The models of transformers rotate channels half a head apart, knowcap rotates neighbours, so the
channels of queries and keys are in another order.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)

from knowcap.config import Architecture
from knowcap.model.num_params import ffn_hidden_size
from tests.support.variants import (
    EXPERTS,
    NUM_SEQUENCES,
    SEQ_LENGTH,
    VOCAB_SIZE,
    architecture,
    stacked,
    windows,
    with_larger_weights,
)

State = dict[str, Tensor]


def reorder_channels(channels: Tensor, kind: Architecture) -> Tensor:
    """Channels, dimension 1, in the order of transformers."""
    pairs = channels[:, : kind.rotary_dim].unflatten(1, (-1, 2))
    halves = pairs.transpose(1, 2).flatten(1, 2)
    return torch.cat((halves, channels[:, kind.rotary_dim :]), 1)


def queries_keys_values(qkv: Tensor, kind: Architecture) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, [heads, channels, ...] each, in the order of transformers."""
    shared = kind.num_attention_heads // kind.num_kv_heads
    by_head = qkv.unflatten(0, (kind.num_kv_heads, shared + 2, kind.kv_channels))
    queries = by_head[:, :shared].flatten(0, 1)
    return (
        reorder_channels(queries, kind),
        reorder_channels(by_head[:, shared], kind),
        by_head[:, shared + 1],
    )


def llama_state(state: State, kind: Architecture) -> State:
    """State dict of a LLaMA, Mistral or Mixtral of transformers."""
    table = state["embedding.word_embeddings.weight"]
    found = {
        "model.embed_tokens.weight": table,
        "model.norm.weight": state["decoder.final_layernorm.weight"],
        "lm_head.weight": table if kind.tied else state["output_layer.weight"],
    }
    for layer in range(kind.num_layers):
        prefix, target = f"decoder.layers.{layer}", f"model.layers.{layer}"
        qkv = state[f"{prefix}.self_attention.linear_qkv.weight"]
        for letter, weight in zip("qkv", queries_keys_values(qkv, kind), strict=True):
            found[f"{target}.self_attn.{letter}_proj.weight"] = weight.flatten(0, 1)
        found[f"{target}.self_attn.o_proj.weight"] = state[
            f"{prefix}.self_attention.linear_proj.weight"
        ]
        found[f"{target}.input_layernorm.weight"] = state[f"{prefix}.input_layernorm.weight"]
        found[f"{target}.post_attention_layernorm.weight"] = state[
            f"{prefix}.pre_mlp_layernorm.weight"
        ]
        if kind.num_moe_experts:
            experts = [
                [state[f"{prefix}.mlp.experts.local_experts.{e}.{fc}.weight"] for fc in FCS]
                for e in range(kind.num_moe_experts)
            ]
            found[f"{target}.mlp.gate.weight"] = state[f"{prefix}.mlp.router.weight"]
            found[f"{target}.mlp.experts.gate_up_proj"] = torch.stack([fc1 for fc1, _ in experts])
            found[f"{target}.mlp.experts.down_proj"] = torch.stack([fc2 for _, fc2 in experts])
        else:
            fc1, fc2 = (state[f"{prefix}.mlp.{fc}.weight"] for fc in FCS)
            gate, up = fc1.chunk(2)
            found |= {f"{target}.mlp.gate_proj.weight": gate, f"{target}.mlp.up_proj.weight": up}
            found[f"{target}.mlp.down_proj.weight"] = fc2
    return found


FCS = ("linear_fc1", "linear_fc2")


def neox_state(state: State, kind: Architecture) -> State:
    """State dict of a GPT-NeoX of transformers, which is a GPT2 with rotary embedding."""
    table = state["embedding.word_embeddings.weight"]
    found = {"gpt_neox.embed_in.weight": table, "lm_head.weight": table}
    names = {
        "input_layernorm": "input_layernorm",
        "self_attention.linear_proj": "attention.dense",
        "pre_mlp_layernorm": "post_attention_layernorm",
        "mlp.linear_fc1": "mlp.dense_h_to_4h",
        "mlp.linear_fc2": "mlp.dense_4h_to_h",
    }
    for part in ("weight", "bias"):
        found[f"gpt_neox.final_layer_norm.{part}"] = state[f"decoder.final_layernorm.{part}"]
        for layer in range(kind.num_layers):
            prefix, target = f"decoder.layers.{layer}", f"gpt_neox.layers.{layer}"
            qkv = state[f"{prefix}.self_attention.linear_qkv.{part}"]
            by_head = torch.stack(queries_keys_values(qkv, kind), 1)
            found[f"{target}.attention.query_key_value.{part}"] = by_head.flatten(0, 2)
            for name, target_name in names.items():
                if f"{prefix}.{name}.{part}" in state:
                    found[f"{target}.{target_name}.{part}"] = state[f"{prefix}.{name}.{part}"]
    return found


def shape(kind: Architecture) -> dict[str, Any]:
    return {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": kind.hidden_size,
        "num_hidden_layers": kind.num_layers,
        "num_attention_heads": kind.num_attention_heads,
        "tie_word_embeddings": kind.tied,
        "attn_implementation": "eager",
    }


def llama(kind: Architecture, config: type, model: type, **more: Any) -> PreTrainedModel:
    return model(
        config(
            **shape(kind),
            intermediate_size=ffn_hidden_size(kind),
            num_key_value_heads=kind.num_kv_heads,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": float(kind.rotary_base)},
            **more,
        )
    )


def neox(kind: Architecture) -> PreTrainedModel:
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            **shape(kind),
            intermediate_size=ffn_hidden_size(kind) or 1,
            use_parallel_residual=False,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": float(kind.rotary_base),
                "partial_rotary_factor": kind.rotary_percent,
            },
        )
    )
    for name, parameter in model.named_parameters():
        if "mlp" in name:  # without weights to load, an MLP adds nothing
            parameter.data.zero_()
    return model


ROTARY = {"rotary_percent": 1.0, "rotary_base": 100}
REFERENCES = {
    "GPT2": (architecture("GPT2"), neox, neox_state),
    "GPT2_quarter": (architecture("GPT2_quarter"), neox, neox_state),
    "GPT2_0": (architecture("GPT2_0"), neox, neox_state),
    "LLaMA": (
        architecture("LLaMA", **ROTARY),
        lambda kind: llama(kind, LlamaConfig, LlamaForCausalLM),
        llama_state,
    ),
    "tied LLaMA with gelu": (
        architecture("LLaMA", **ROTARY, tied=True, activation="gelu"),
        lambda kind: llama(kind, LlamaConfig, LlamaForCausalLM, hidden_act="gelu"),
        llama_state,
    ),
    "Mistral": (
        architecture("Mistral", **ROTARY | {"size": "2-8"}),
        lambda kind: llama(kind, MistralConfig, MistralForCausalLM, sliding_window=None),
        llama_state,
    ),
    "Mixtral": (
        architecture("Mistral", **ROTARY, **EXPERTS | {"moe_router_topk": 2}),
        lambda kind: llama(
            kind,
            MixtralConfig,
            MixtralForCausalLM,
            num_local_experts=kind.num_moe_experts,
            num_experts_per_tok=kind.moe_router_topk,
        ),
        llama_state,
    ),
}


@pytest.mark.parametrize(("kind", "reference", "mapped"), REFERENCES.values(), ids=REFERENCES)
def test_logits_equal_those_of_the_reference(kind, reference, mapped):
    model = with_larger_weights(stacked(kind, 1, 2))
    other = reference(kind).eval()
    state = mapped(model.unstack(1), kind)
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not unexpected
    absent = () if kind.mlp_weights else ("mlp", "post_attention_layernorm")
    assert all(any(part in name for part in absent) for name in missing)
    tokens = windows(2, NUM_SEQUENCES, SEQ_LENGTH)
    with torch.no_grad():
        found, expected = model.logits(tokens)[1], other(tokens[1]).logits
    # float32 sums in another order
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
