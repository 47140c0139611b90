"""How many parameters a model has, known from its record alone."""

from __future__ import annotations

from knowcap.config import Architecture


def num_weights(architecture: Architecture, vocab_size: int) -> dict[str, int]:
    """Entries of the matrices that a token is multiplied by, by kind.

    The output layer is the embedding; looking a token up in it multiplies nothing.
    """
    width, num_layers = architecture.hidden_size, architecture.num_layers
    return {
        "output": vocab_size * width,
        "attention": num_layers * 4 * width**2,
        "mlp": num_layers * 8 * width**2,
    }


def num_params(architecture: Architecture, vocab_size: int) -> dict[str, int]:
    """Parameters of a model, by kind and in total.

    Notes
    -----
    `total` is V d + l (12 d^2 + 13 d) + 2 d for l layers of width d: biases and norms count, the
    tied embedding counts once, and only tokens that occur have a row in it.
    """
    # PAPER appendix A: unused rows of the embedding are not counted
    width, num_layers = architecture.hidden_size, architecture.num_layers
    weights = num_weights(architecture, vocab_size)
    parts = {
        "embedding": weights["output"],
        "attention": weights["attention"] + num_layers * 4 * width,
        "mlp": weights["mlp"] + num_layers * 5 * width,
        "norm": num_layers * 4 * width + 2 * width,
    }
    return {**parts, "total": sum(parts.values())}
