"""Models of Hugging Face transformers, trained by the usual loop or by its Trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from knowcap.model.num_params import ffn_hidden_size
from knowcap_benchmarks.baseline_loop import TrainableModel, compile_if_set, with_baseline_loop
from knowcap_benchmarks.cases import (
    BETAS,
    CLIP_GRAD,
    EPS,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Case,
    case_architecture,
)
from knowcap_benchmarks.implementations import Implementation
from knowcap_benchmarks.token_feed import TokenFeed


def _transformers_model(case: Case, family: str) -> nn.Module:
    """Build GPT2 (learned positions) or Llama (rotary, gated MLP) of transformers."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    if family == "gpt2":
        gpt2: nn.Module = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=case.vocab_size,
                n_positions=case.seq_length,
                n_embd=case.hidden_size,
                n_layer=case.num_layers,
                n_head=case.num_attention_heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                use_cache=False,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
        return gpt2
    gated = case_architecture(case).model_copy(update={"gated": True})
    llama: nn.Module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=case.vocab_size,
            max_position_embeddings=case.seq_length,
            hidden_size=case.hidden_size,
            intermediate_size=ffn_hidden_size(gated),
            num_hidden_layers=case.num_layers,
            num_attention_heads=case.num_attention_heads,
            tie_word_embeddings=True,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    return llama


def with_loop(case: Case, implementation: Implementation, device: torch.device) -> TrainableModel:
    """Build a model of transformers with the usual training loop."""
    model = _transformers_model(case, implementation.builder).to(device).train()
    call = compile_if_set(model, implementation)

    def loss(inputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        nats: Tensor = call(input_ids=inputs_BS, labels=targets_BS, shift_labels=targets_BS).loss
        return nats

    return with_baseline_loop(model, loss, implementation, device)


def with_trainer(
    case: Case, implementation: Implementation, device: torch.device
) -> TrainableModel:
    """Build GPT2 of transformers with the Trainer of transformers."""
    from torch.utils.data import IterableDataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = _transformers_model(case, "gpt2")

    class Windows(IterableDataset[dict[str, Tensor]]):
        def __init__(self, feed: TokenFeed) -> None:
            self.feed = feed

        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            for tokens_RBS1 in self.feed:
                for window in tokens_RBS1[0].cpu():
                    yield {"input_ids": window[:-1], "labels": window[1:]}

    def train(feed: TokenFeed) -> None:
        class LossRecordingTrainer(Trainer):  # type: ignore[misc]
            def compute_loss(self, model: nn.Module, inputs: Any, *_: Any, **__: Any) -> Tensor:
                labels = inputs["labels"]
                nats: Tensor = model(**inputs, shift_labels=labels).loss
                feed.record_loss(nats)
                return nats

        class StopWhenFinished(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, _: Any, __: Any, control: Any, **___: Any) -> None:
                control.should_training_stop = feed.is_finished

        with tempfile.TemporaryDirectory() as folder:
            settings = TrainingArguments(
                folder,
                max_steps=10**7,
                per_device_train_batch_size=case.num_windows,
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                adam_beta1=BETAS[0],
                adam_beta2=BETAS[1],
                adam_epsilon=EPS,
                max_grad_norm=CLIP_GRAD,
                lr_scheduler_type="constant",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=device.type == "cpu",
            )
            LossRecordingTrainer(
                model, settings, train_dataset=Windows(feed), callbacks=[StopWhenFinished()]
            ).train()

    return TrainableModel(train, sum(parameter.numel() for parameter in model.parameters()))
