"""Attention and MLP of stacked replicates.

Shapes: R replicates, T tokens (sequences of S positions one after the other), H hidden, F inner
width of an MLP, C channels of a head, N sequences of all replicates, G MLPs (replicates, or experts
of all replicates).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from knowcap.model.attention import causal_attention
from knowcap.model.linear import StackedLinear
from knowcap.model.megatron_core import TransformerConfig
from knowcap.model.rotary import apply_rotary


class AttentionBlock(nn.Module):
    """Self-attention of R replicates, with the residual connection."""

    def __init__(self, config: TransformerConfig, num_replicates: int) -> None:
        super().__init__()
        width = config.hidden_size
        num_heads = config.num_attention_heads + 2 * config.num_query_groups
        qkv_width = num_heads * config.kv_channels
        self.linear_qkv = StackedLinear(config, (num_replicates,), width, qkv_width)
        self.linear_proj = StackedLinear(config, (num_replicates,), width, width)

    def forward(
        self,
        inputs_RTH: Tensor,
        residual_RTH: Tensor,
        factors: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return residual + projection(attention(inputs)), [R, T, H].

        Parameters
        ----------
        inputs_RTH
            Normalized hidden states in the dtype of the products.
        residual_RTH
            Hidden states in float32.
        factors
            See :func:`knowcap.model.rotary.rotary_factors`.
        mask
            See :func:`knowcap.model.attention.document_mask`.
        """
        qkv = apply_rotary(self.linear_qkv(inputs_RTH), factors).to(inputs_RTH.dtype)
        q, k, v = _split_heads(qkv)
        out_NHSC = causal_attention(q, k, v, mask)
        out_RTH = out_NHSC.transpose(1, 2).reshape(inputs_RTH.shape)
        outputs_RTH: Tensor = self.linear_proj(out_RTH, residual_RTH)
        return outputs_RTH


def _split_heads(qkv: Tensor) -> tuple[Tensor, ...]:
    """Queries [N, heads, S, C], and keys and values [N, KV heads, S, C].

    `qkv` is [N, S, KV heads, Q + 2, C], with the Q query heads of a KV head, its key and its value.
    """
    heads_first = qkv.permute(3, 0, 2, 1, 4)
    if len(heads_first) == 3:
        return heads_first.contiguous().unbind()
    q, k, v = heads_first.split((len(heads_first) - 2, 1, 1))
    return q.permute(1, 2, 0, 3, 4).flatten(1, 2), k.squeeze(0), v.squeeze(0)


class MLPBlock(nn.Module):
    """MLPs of replicates, or of their experts; a gate is optional.

    With a gate, the first layer's outputs are a gate and a linear part, and its activation is
    `function(gate) * linear` (Shazeer 2020, arXiv 2002.05202).

    Parameters
    ----------
    config
        Widths, activation and gate.
    stack
        Leading dimensions of the parameters, see :class:`knowcap.model.linear.StackedLinear`.
    """

    def __init__(self, config: TransformerConfig, stack: tuple[int, ...]) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.ffn_hidden_size
        self.function = config.activation_func
        self.is_gated = config.gated_linear_unit
        self.linear_fc1 = StackedLinear(config, stack, width, 2 * inner if self.is_gated else inner)
        self.linear_fc2 = StackedLinear(config, stack, inner, width)

    def forward(self, inputs_GTH: Tensor, residual_GTH: Tensor | None = None) -> Tensor:
        """Return fc2(activation(fc1(inputs))), plus the residual if there is one, [G, T, H]."""
        inner_GTF = self.linear_fc1(inputs_GTH)
        if self.is_gated:
            gate_GTF, linear_GTF = inner_GTF.chunk(2, -1)
            inner_GTF = self._activate(gate_GTF) * linear_GTF
        else:
            inner_GTF = self._activate(inner_GTF)
        outputs_GTH: Tensor = self.linear_fc2(inner_GTF, residual_GTH)
        return outputs_GTH

    def _activate(self, inner_GTF: Tensor) -> Tensor:
        """Apply the activation function, rounding to bfloat16 once."""
        if inner_GTF.dtype == torch.bfloat16 and not inner_GTF.is_cuda:
            # On a CPU torch's gelu rounds each operation within and takes three times as long.
            return self.function(inner_GTF.float()).to(inner_GTF.dtype)  # type: ignore[no-any-return]
        return self.function(inner_GTF)  # type: ignore[no-any-return]
