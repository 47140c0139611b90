"""How many parameters a model has, known from its record alone.

d is the width, l the number of layers, V the size of the vocabulary, F the width inside an MLP.
"""

from __future__ import annotations

from knowcap.config import Architecture


def ffn_hidden_size(architecture: Architecture) -> int:
    """F, the width inside an MLP or an expert; 0 if there is no MLP.

    It is such that an MLP has `mlp_weights` d^2 weights: in two matrices, or three if it is gated.
    """
    exact = architecture.mlp_weights * architecture.hidden_size / (3 if architecture.gated else 2)
    # ASSUME: what is not an integer, as LLaMA's 8d/3, is rounded to a multiple of 8, which is what
    # fast products of matrices want; the paper counts 8 d^2
    return int(exact) if exact.is_integer() else max(8, 8 * round(exact / 8))


def _qkv_size(architecture: Architecture) -> int:
    """Width of queries, keys and values together."""
    heads = architecture.num_attention_heads + 2 * architecture.num_kv_heads
    return heads * architecture.kv_channels


def _mlp_weights(architecture: Architecture) -> int:
    """Weights of one MLP or expert."""
    matrices = 3 if architecture.gated else 2
    return matrices * architecture.hidden_size * ffn_hidden_size(architecture)


def num_weights(architecture: Architecture, vocab_size: int) -> dict[str, int]:
    """Entries of the matrices that a token is multiplied by, by kind.

    Looking a token up in an embedding multiplies nothing; of experts those that it chooses count.
    """
    width, num_layers = architecture.hidden_size, architecture.num_layers
    chosen = architecture.moe_router_topk or 1
    return {
        "output": vocab_size * width,
        "attention": num_layers * width * (_qkv_size(architecture) + width),
        "mlp": num_layers * chosen * _mlp_weights(architecture),
        "router": num_layers * width * architecture.num_moe_experts,
    }


def num_params(architecture: Architecture, vocab_size: int) -> dict[str, int]:
    """Parameters of a model: by kind, in `total`, and those a token uses in `active`.

    Notes
    -----
    `total` is V d + l (12 d^2 + 13 d) + 2 d for GPT2: biases and norms count, a tied embedding
    counts once, and only tokens that occur have a row in it. Of experts all count in `total`, the
    chosen ones in `active`; the two are equal in a model without experts.
    """
    # PAPER appendix A: unused rows of the embedding are not counted
    # PAPER 9: all experts count, and so does what routes to them
    width, num_layers = architecture.hidden_size, architecture.num_layers
    bias, experts = int(architecture.add_bias), architecture.num_moe_experts
    matrices, inner = 1 + architecture.gated, ffn_hidden_size(architecture)
    expert = _mlp_weights(architecture) + (bias * (matrices * inner + width) if inner else 0)
    norms = num_layers * (2 if inner else 1) + 1
    weights = num_weights(architecture, vocab_size)
    parts = {
        "embedding": weights["output"],
        "output_layer": 0 if architecture.tied else weights["output"],
        "attention": weights["attention"] + bias * num_layers * (_qkv_size(architecture) + width),
        "mlp": num_layers * max(1, experts) * expert,
        "router": weights["router"] + bias * num_layers * experts,
        "norm": norms * width * (2 if architecture.normalization == "LayerNorm" else 1),
    }
    total = sum(parts.values())
    idle = max(0, experts - (architecture.moe_router_topk or 0))
    return {**parts, "total": total, "active": total - num_layers * idle * expert}
