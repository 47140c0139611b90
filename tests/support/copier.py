"""A language model built to copy: a GPT-2 whose weights are an induction head.

Its tokens are whole sentences. The first layer writes the previous token of each position; the
second attends to the position whose previous token is the present token, and copies its token. The
heads of the facts and of the biography are one token, so the biography begins with the first fact
and, after all facts, reaches that head again, which is its end of text.
"""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

HEAD, ELSE, PAD = "Facts:", "<else>", "<pad>"
NUM_POSITIONS = 64
SHARPNESS = 1500.0
"""Of attention: enough to look at one place, whether scores are divided by sqrt(width) or not."""


def sentences(prompts: list[str]) -> list[str]:
    """The sentences of some prompts, once each."""
    cut = _tokenizer([HEAD, ELSE, PAD]).pre_tokenizer.pre_tokenize_str
    return list(dict.fromkeys(piece for text in prompts for piece, _ in cut(text)))


def _tokenizer(tokens: list[str]) -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=ELSE))
    tokenizer.normalizer = normalizers.Replace("\n\nBiography:", "\n\nFacts:")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n\n"), "removed"),
            pre_tokenizers.Split(Regex(r"[^.:]+[.:]"), "isolated"),
        ]
    )
    return tokenizer


def write_copier(folder: Path, prompts: list[str]) -> None:
    """Save a model that completes each prompt with its facts, and its tokenizer."""
    tokens = list(dict.fromkeys([HEAD, ELSE, PAD, *sentences(prompts)]))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(tokens), eos_token=HEAD, pad_token=PAD, unk_token=ELSE
    )
    tokenizer.save_pretrained(folder)
    model = _empty_model(len(tokens))
    with torch.no_grad():
        _set_weights(model, len(tokens))
    model.save_pretrained(folder)


def write_random(folder: Path, prompts: list[str]) -> None:
    """Save a model of the same kind that has learnt nothing."""
    write_copier(folder, prompts)
    torch.manual_seed(0)
    tokens = PreTrainedTokenizerFast.from_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(tokens), n_positions=NUM_POSITIONS, n_embd=16, n_layer=1, n_head=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)


def _empty_model(num_tokens: int) -> GPT2LMHeadModel:
    width = NUM_POSITIONS + 3 * num_tokens
    config = GPT2Config(
        vocab_size=num_tokens,
        n_positions=NUM_POSITIONS,
        n_embd=width,
        n_layer=2,
        n_head=1,
        n_inner=1,
        tie_word_embeddings=False,
        scale_attn_weights=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=2,
    )
    model = GPT2LMHeadModel(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.constant_(parameter, 1.0 if ".ln_" in name and "weight" in name else 0.0)
    return model


def _set_weights(model: GPT2LMHeadModel, num_tokens: int) -> None:
    place = torch.arange(NUM_POSITIONS)
    token, before, answer = (
        NUM_POSITIONS + block * num_tokens + torch.arange(num_tokens) for block in range(3)
    )
    width = NUM_POSITIONS + 3 * num_tokens
    transformer = model.transformer
    transformer.wpe.weight[place, place] = 1.0
    transformer.wte.weight[torch.arange(num_tokens), token] = 1.0
    (copies_previous, finds_match) = (block.attn for block in transformer.h)
    # Normalisation scales a one among few ones to about sqrt(width / 2).
    for attention, query_tokens, key_tokens, target, size in (
        (copies_previous, place[1:], place[:-1], before, (2 / width) ** 0.5),
        (finds_match, token, before, answer, 1.0),
    ):
        queries, keys, contents = attention.c_attn.weight.split(width, dim=1)
        queries[query_tokens, torch.arange(len(query_tokens))] = SHARPNESS / width
        keys[key_tokens, torch.arange(len(key_tokens))] = 1.0
        contents[token, torch.arange(num_tokens)] = 1.0
        attention.c_proj.weight[torch.arange(num_tokens), target] = size
    model.lm_head.weight[torch.arange(num_tokens), answer] = 1.0
