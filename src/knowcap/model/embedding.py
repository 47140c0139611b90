"""Token embedding and output layer of stacked replicates.

Shapes: R replicates, T tokens (sequences of S positions one after the other), H hidden, V
vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding


class StackedEmbedding(nn.Module):
    """R tables [R, V, H], each for the tokens of its own replicate.

    An output layer that is not tied to the embedding is another of these tables.
    """

    def __init__(self, num_replicates: int, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_replicates, vocab_size, hidden_size))

    def forward(self, tokens_RT: Tensor) -> Tensor:
        """Look up the hidden states [R, T, H] of tokens [R, T]."""
        num_replicates, vocab_size, _ = self.weight.shape
        first_rows_R = torch.arange(num_replicates, device=tokens_RT.device) * vocab_size
        return embedding(tokens_RT + first_rows_R.unsqueeze(1), self.weight.flatten(0, 1))
