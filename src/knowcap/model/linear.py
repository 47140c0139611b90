"""The linear layers of replicates, and of their experts."""

from __future__ import annotations

import torch
from torch import nn

from knowcap.model.megatron_core import TransformerConfig


class StackedLinear(nn.Module):
    """Weights [*stack, in, out] of linear layers, and biases [*stack, 1, out] if there are any.

    Parameters
    ----------
    config
        Says whether there are biases.
    stack
        Leading dimensions: replicates, and their experts.
    num_inputs, num_outputs
        Of each layer.
    """

    def __init__(
        self, config: TransformerConfig, stack: tuple[int, ...], num_inputs: int, num_outputs: int
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*stack, num_inputs, num_outputs))
        bias = torch.empty(*stack, 1, num_outputs) if config.add_bias_linear else None
        self.bias = None if bias is None else nn.Parameter(bias)


class StackedMLP(nn.Module):
    """The two layers of MLPs. The first outputs of a gated one's first layer are its gate's."""

    def __init__(self, config: TransformerConfig, stack: tuple[int, ...]) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.ffn_hidden_size
        matrices = 2 if config.gated_linear_unit else 1
        self.linear_fc1 = StackedLinear(config, stack, width, matrices * inner)
        self.linear_fc2 = StackedLinear(config, stack, inner, width)
