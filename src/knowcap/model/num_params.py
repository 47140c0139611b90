"""Numbers of parameters of an architecture, by kind.

Symbols: width d, number of layers l, vocabulary size V, inner width of an MLP F.
"""

from __future__ import annotations

from knowcap.config import Architecture


def ffn_hidden_size(architecture: Architecture) -> int:
    """Inner width F of an MLP or an expert; 0 without an MLP.

    An MLP has `mlp_weights` d^2 weights in two matrices, or in three if it is gated.
    """
    exact = architecture.mlp_weights * architecture.hidden_size / (3 if architecture.gated else 2)
    # ASSUME: a width that is not an integer, as LLaMA's 8d/3, is rounded to a multiple of 8, for
    # fast matrix products; the paper counts 8 d^2
    return int(exact) if exact.is_integer() else max(8, 8 * round(exact / 8))


def _qkv_size(architecture: Architecture) -> int:
    """Total width of queries, keys and values."""
    heads = architecture.num_attention_heads + 2 * architecture.num_kv_heads
    return heads * architecture.kv_channels


def _mlp_weights(architecture: Architecture) -> int:
    """Number of weights of one MLP or expert."""
    matrices = 3 if architecture.gated else 2
    return matrices * architecture.hidden_size * ffn_hidden_size(architecture)


def num_weights(architecture: Architecture, vocab_size: int) -> dict[str, int]:
    """Number of weights that a token is multiplied by, by kind.

    Embedding lookups are not products. Only the experts that a token is routed to count.
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
    """Number of parameters by kind, in `total`, and of those a token uses in `active`.

    Notes
    -----
    `total` is V d + l (12 d^2 + 13 d) + 2 d for GPT2. Biases and norms count, a tied embedding
    counts once, and V is the number of tokens that occur. All experts count in `total`, only
    `moe_router_topk` of them in `active`. Without experts the two are equal.
    """
    # PAPER appendix A: unused rows of the embedding are not counted
    # PAPER 9: all experts and the router count
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
