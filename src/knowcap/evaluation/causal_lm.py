"""Causal language models of `transformers` from local files: logits, tokenizer and parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from knowcap.artifacts.optional_library import import_library, import_transformers
from knowcap.data.text_tokenizer import TextTokenizer, TextTokens
from knowcap.errors import UserError
from knowcap.evaluation.evaluate import BATCH_LOGITS

ModelDtype = Literal["float32", "bfloat16", "float16"]
"""Dtypes of the weights in an evaluation."""


class NumParams(NamedTuple):
    """Numbers of parameters of a model; tied weights count once."""

    total: int
    embedding: int
    """Of the embedding and an untied output layer, all rows."""
    used: int
    """Without the embedding rows of tokens that the corpus does not use."""

    @property
    def unused(self) -> int:
        """Of the embedding rows of tokens that the corpus does not use."""
        return self.total - self.used


class CausalLM:
    """A causal language model in evaluation mode, on a GPU if there is one.

    Parameters
    ----------
    folder
        ``config.json`` and weights in safetensors. No code in it is executed.
    dtype
        Dtype of the weights.
    num_threads
        CPU threads of torch.

    Raises
    ------
    UserError
        If a file is missing, or no class of `transformers` loads the folder.
    """

    def __init__(self, folder: Path, dtype: ModelDtype, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        transformers = import_transformers("--model")
        damaged = import_library("safetensors", "--model").SafetensorError
        self.folder = folder
        if not (folder / "config.json").exists():
            raise UserError(f"{folder / 'config.json'}: missing; --model is a folder with a model")
        if not any(folder.glob("*.safetensors")):
            raise UserError(
                f"{folder}: no weights in safetensors; save them with "
                "`model.save_pretrained(FOLDER)`"
            )
        try:
            self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, damaged) as error:
            line = str(error).strip().splitlines()[0]
            raise UserError(f"{folder}: transformers cannot load the model ({line})") from None
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.eval().to(self.device)

    @property
    def class_name(self) -> str:
        """Class of the model, such as `GPTNeoXForCausalLM`."""
        return type(self.model).__name__

    @property
    def vocab_size(self) -> int:
        """Tokens that the model predicts: rows of the output layer."""
        return int(self._output_weight().shape[0])

    @property
    def context_length(self) -> int | None:
        """Largest number of tokens of a prompt; None if the configuration has none."""
        length = getattr(self.model.config, "max_position_embeddings", None)
        return None if length is None else int(length)

    def logits(self, tokens_PS: Tensor) -> Tensor:
        """Logits [1, P, S, V] of the token after each, in float32.

        Padding comes after all tokens of a prompt, so that causal attention needs no mask.
        """
        output = self.model(input_ids=tokens_PS.to(self.device), use_cache=False)
        logits_1PSV: Tensor = output.logits.unsqueeze(0).float()
        return logits_1PSV

    def num_params(self, num_used_tokens: int) -> NumParams:
        """Numbers of parameters for a corpus that uses some of the tokens."""
        embedding, output = self._input_weight(), self._output_weight()
        tables = [embedding] if self._is_tied else [embedding, output]
        bias = getattr(self.model.get_output_embeddings(), "bias", None)
        rows = tables if bias is None else [*tables, bias]
        total = sum(parameter.numel() for parameter in self.model.parameters())
        unused = sum((x.shape[0] - num_used_tokens) * (x.numel() // x.shape[0]) for x in rows)
        return NumParams(total, sum(x.numel() for x in rows), total - max(0, unused))

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch whose logits fit into memory."""
        return max(1, BATCH_LOGITS[self.device.type] // self.vocab_size)

    def describe(self) -> dict[str, Any]:
        """Columns of a study's table that the model itself shows."""
        config = self.model.config
        modules = [(name, type(m).__name__) for name, m in self.model.named_modules()]
        names = [name for name, _ in self.model.named_parameters()]
        activation = getattr(config, "hidden_act", getattr(config, "activation_function", ""))
        return {
            "model": self.folder.resolve().name,
            "family": self.class_name,
            "num_layers": int(config.num_hidden_layers),
            "num_attention_heads": int(getattr(config, "num_attention_heads", 0) or 0),
            "hidden_size": int(self._input_weight().shape[1]),
            "tied": self._is_tied,
            "gated": any(re.search(r"\b(gate_proj|gate_up_proj)\b", name) for name in names),
            "activation": str(activation),
            "normalization": (
                "RMSNorm" if any("RMSNorm" in kind for _, kind in modules) else "LayerNorm"
            ),
            "add_bias": any(
                getattr(m, "bias", None) is not None
                for m in self.model.modules()
                if isinstance(m, nn.Linear)
            ),
            "num_moe_experts": self._num_experts,
        }

    def num_idle_params(self) -> int:
        """Parameters of the experts that a token is not routed to."""
        if not self._num_experts:
            return 0
        chosen = int(getattr(self.model.config, "num_experts_per_tok", self._num_experts))
        in_experts: int = sum(
            parameter.numel()
            for name, parameter in self.model.named_parameters()
            if ".experts." in name
        )
        return in_experts * (self._num_experts - chosen) // self._num_experts

    @property
    def _num_experts(self) -> int:
        """Experts of a layer, 0 for a dense model."""
        names = ("num_local_experts", "num_experts", "n_routed_experts")
        found = (getattr(self.model.config, name, None) for name in names)
        return int(next((number for number in found if number), 0))

    @property
    def _is_tied(self) -> bool:
        return self._input_weight().data_ptr() == self._output_weight().data_ptr()

    def _input_weight(self) -> Tensor:
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    def _output_weight(self) -> Tensor:
        output = self.model.get_output_embeddings()
        if output is None:
            raise UserError(f"{self.folder}: {self.class_name} has no output layer over tokens")
        weight: Tensor = output.weight
        return weight


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has files of a tokenizer."""
    return any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json"))


def load_text_tokenizer(folder: Path, name: str, domain_token: str | None) -> TextTokenizer:
    """Load the tokenizer in a folder.

    Biographies follow the tokens that the tokenizer itself puts before a text, or else its end of
    text.

    Parameters
    ----------
    folder
        Files of a tokenizer.
    name
        A name in the corpus, to see what the tokenizer adds to a text.
    domain_token
        Token that the corpus has before every biography.

    Raises
    ------
    UserError
        If `transformers` cannot load it, or it has no offsets or no end of text.
    """
    transformers = import_transformers("--model")
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"{folder}: transformers cannot load the tokenizer ({line})") from None
    if not tokenizer.is_fast:
        raise UserError(f"{folder}: the tokenizer has no tokenizer.json, so it has no offsets")
    end = tokenizer.eos_token_id
    if end is None:
        raise UserError(f"{folder}: the tokenizer has no eos_token, which separates biographies")
    opening = _tokens_before(tokenizer, name) or [end]
    if domain_token is not None:
        opening += tokenizer(domain_token, add_special_tokens=False).input_ids

    def encode(texts: Sequence[str]) -> list[TextTokens]:
        found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        return [
            TextTokens(*pair)
            for pair in zip(found["input_ids"], found["offset_mapping"], strict=True)
        ]

    return TextTokenizer(encode, _token_texts(tokenizer, name), opening, end)


def _tokens_before(tokenizer: Any, name: str) -> list[int]:
    """Special tokens that a tokenizer puts before a text."""
    plain = tokenizer(name, add_special_tokens=False).input_ids
    with_special = tokenizer(name).input_ids
    for start in range(len(with_special)):
        if with_special[start : start + len(plain)] == plain:
            return list(with_special[:start])
    return []


def _token_texts(tokenizer: Any, name: str) -> Callable[[], list[str]]:
    """Function that returns the text of every token.

    Tokens are decoded after a name, because some tokenizers strip the first space of a text.
    """

    def token_texts() -> list[str]:
        before = tokenizer(name, add_special_tokens=False).input_ids
        length = len(tokenizer.decode(before, clean_up_tokenization_spaces=False))
        rows = [[*before, token] for token in range(len(tokenizer))]
        texts = tokenizer.batch_decode(
            rows, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text[length:] for text in texts]

    return token_texts
