"""Linear layer of stacked replicates, one batched product for all of them.

Shapes: G layers (replicates, or experts of all replicates), T tokens, I inputs, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from knowcap.model.megatron_core import TransformerConfig


class StackedLinear(nn.Module):
    """Linear layers with weights [*stack, I, O] and biases [*stack, 1, O].

    Parameters
    ----------
    config
        `add_bias_linear` tells whether there are biases.
    stack
        Leading dimensions: (R,) for replicates, (R, E) for the experts of replicates.
    num_inputs, num_outputs
        Width of each layer.
    """

    def __init__(
        self, config: TransformerConfig, stack: tuple[int, ...], num_inputs: int, num_outputs: int
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*stack, num_inputs, num_outputs))
        bias = torch.empty(*stack, 1, num_outputs) if config.add_bias_linear else None
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, inputs_GTI: Tensor, residual_GTO: Tensor | None = None) -> Tensor:
        """Return inputs @ weight + bias, plus the residual if there is one.

        The product is in the dtype of the inputs. Sums are in the dtype of the residual.
        """
        weight_GIO = self.weight.flatten(0, -3).to(inputs_GTI.dtype)
        if residual_GTO is None:
            outputs_GTO = torch.bmm(inputs_GTI, weight_GIO)
        elif residual_GTO.dtype == inputs_GTI.dtype:
            outputs_GTO = torch.baddbmm(residual_GTO, inputs_GTI, weight_GIO)
        else:
            outputs_GTO = residual_GTO + torch.bmm(inputs_GTI, weight_GIO)
        return outputs_GTO if self.bias is None else outputs_GTO.add_(self.bias.flatten(0, -3))
