"""LayerNorm and RMSNorm of stacked replicates.

Shapes: R replicates, T tokens, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm

from knowcap.model.megatron_core import TransformerConfig


class StackedNorm(nn.Module):
    """R norms with weights [R, 1, H]; a LayerNorm also has biases [R, 1, H].

    Parameters
    ----------
    config
        `normalization` is "LayerNorm" or "RMSNorm".
    hidden_size, eps
        H, and the constant that is added to variances.
    num_replicates
        R.
    """

    def __init__(
        self, config: TransformerConfig, hidden_size: int, eps: float, num_replicates: int
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(num_replicates, 1, hidden_size))
        has_bias = config.normalization == "LayerNorm"
        bias = torch.empty(num_replicates, 1, hidden_size) if has_bias else None
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, hidden_RTH: Tensor) -> Tensor:
        """Normalize the hidden state of each token."""
        shape = hidden_RTH.shape[-1:]
        # torch's norms take one weight, and each replicate has its own.
        if self.bias is None:
            return rms_norm(hidden_RTH, shape, None, self.eps) * self.weight
        # addcmul would take two more passes over the hidden states in the backward pass.
        return (layer_norm(hidden_RTH, shape, None, None, self.eps) * self.weight).add_(self.bias)
