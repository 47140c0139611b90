"""Models of transformers that are trained on exported text with plain code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


def training_tokens(text_folder: Path, tokenizer: Any) -> Tensor:
    """All biographies, each after an end of text."""
    lines = (text_folder / "biographies.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    tokens: list[int] = []
    for row in tokenizer(texts, add_special_tokens=False).input_ids:
        tokens += [tokenizer.eos_token_id, *row]
    return torch.tensor([*tokens, tokenizer.eos_token_id])


def train_plainly(
    model: PreTrainedModel, tokens: Tensor, *, window: int, batch: int, lr: float
) -> None:
    """Train once over consecutive windows."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    windows = tokens[: len(tokens) // window * window].view(-1, window)
    for rows in windows.split(batch):
        loss = model(input_ids=rows, labels=rows).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def log_prob(model: PreTrainedModel, tokens: list[int]) -> float:
    """Log probability of all tokens but the first, in nats."""
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return float(sum(log_probs[i, token] for i, token in enumerate(tokens[1:])))
