"""Every implementation behind one interface: given windows, it makes the steps.

Peers are installed packages, set up as their documentation says, with the optimiser torch gives
them. They are imported when they are asked for, in a process of their own.

Each builder takes a case and an implementation's settings and returns a model's loss; a
:data:`Training` makes steps for as long as a feed has windows. Shapes: R models, B windows, S
positions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from knowcap.benchmarks.cases import (
    BETAS,
    CLIP_GRAD,
    EPS,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Case,
    architecture_of,
    run_of,
)
from knowcap.benchmarks.feed import Feed
from knowcap.benchmarks.implementations import Implementation
from knowcap.size import ffn_hidden_size

if TYPE_CHECKING:
    from knowcap.bios.corpus import Biographer
    from knowcap.lm.lock import Lock

Training = Callable[[Feed], None]
"""Makes a step with each batch of a feed, and notes its loss."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean cross-entropy of a batch's tokens [B, S], given those that follow."""


class Built(NamedTuple):
    """An implementation, ready to train."""

    train: Training
    num_params: int


def build(case: Case, implementation: Implementation, device: torch.device) -> Built:
    """Set an implementation up for a case."""
    return BUILDERS[implementation.model](case, implementation, device)


def _ordinary(
    model: nn.Module, loss: Loss, implementation: Implementation, device: torch.device
) -> Built:
    """Train a module in the ordinary way, by AdamW after clipping."""
    fused = {"fused": True} if implementation.model == "plain" else {}
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPS,
        weight_decay=WEIGHT_DECAY,
        **fused,
    )
    mixed = implementation.bfloat16 and implementation.model != "plain"

    def train(feed: Feed) -> None:
        for tokens_RBS1 in feed:
            inputs_BS = tokens_RBS1[0, :, :-1].contiguous()
            targets_BS = tokens_RBS1[0, :, 1:].contiguous()
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                nats = loss(inputs_BS, targets_BS)
            nats.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_GRAD)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            feed.note(nats)

    return Built(train, sum(parameter.numel() for parameter in model.parameters()))


def _compiled(model: nn.Module, implementation: Implementation) -> Callable[..., Any]:
    return torch.compile(model) if implementation.compiled else model


def _transformers_model(case: Case, family: str) -> nn.Module:
    """Build a model of transformers, with GPT2's positions or LLaMA's."""
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
    gated = architecture_of(case).model_copy(update={"gated": True})
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


def _transformers(case: Case, implementation: Implementation, device: torch.device) -> Built:
    """Train a model of transformers by hand."""
    model = _transformers_model(case, implementation.model).to(device).train()
    call = _compiled(model, implementation)

    def loss(inputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        nats: Tensor = call(input_ids=inputs_BS, labels=targets_BS, shift_labels=targets_BS).loss
        return nats

    return _ordinary(model, loss, implementation, device)


def _trainer(case: Case, implementation: Implementation, device: torch.device) -> Built:
    """Let the Trainer of transformers train its GPT2."""
    from torch.utils.data import IterableDataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = _transformers_model(case, "gpt2")

    class Windows(IterableDataset[dict[str, Tensor]]):
        def __init__(self, feed: Feed) -> None:
            self.feed = feed

        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            for tokens_RBS1 in self.feed:
                for window in tokens_RBS1[0].cpu():
                    yield {"input_ids": window[:-1], "labels": window[1:]}

    def train(feed: Feed) -> None:
        class Noting(Trainer):  # type: ignore[misc]
            def compute_loss(self, model: nn.Module, inputs: Any, *_: Any, **__: Any) -> Tensor:
                labels = inputs["labels"]
                nats: Tensor = model(**inputs, shift_labels=labels).loss
                feed.note(nats)
                return nats

        class Ending(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, _: Any, __: Any, control: Any, **___: Any) -> None:
                control.should_training_stop = feed.is_over

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
            Noting(model, settings, train_dataset=Windows(feed), callbacks=[Ending()]).train()

    return Built(train, sum(parameter.numel() for parameter in model.parameters()))


def _litgpt(case: Case, implementation: Implementation, device: torch.device) -> Built:
    """Train litgpt's model as GPT-NeoX is: rotary, LayerNorm, biases."""
    from litgpt import GPT, Config

    architecture = architecture_of(case)
    model = GPT(
        Config(
            name="pythia-like",
            block_size=case.seq_length,
            padded_vocab_size=case.vocab_size,
            vocab_size=case.vocab_size,
            n_layer=case.num_layers,
            n_head=case.num_attention_heads,
            n_embd=case.hidden_size,
            rotary_percentage=architecture.rotary_percent,
            parallel_residual=False,
            bias=True,
            attn_bias=True,
        )
    )
    model.apply(_initialize)
    model.lm_head.weight = model.transformer.wte.weight
    model.to(device)
    call = _compiled(model, implementation)

    def loss(inputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        logits = call(inputs_BS)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets_BS.flatten())

    return _ordinary(model, loss, implementation, device)


def _initialize(module: nn.Module) -> None:
    """Draw weights as GPT-2's are."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _megatron(case: Case, implementation: Implementation, device: torch.device) -> Built:
    """Train Megatron-core's GPTModel with its local spec, nothing of it replaced."""
    # Before our own modules, which import Megatron without the compiler of its fused paths.
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.tensor_parallel.random import (
        initialize_rng_tracker,
        model_parallel_cuda_manual_seed,
    )

    from knowcap.lm.architecture import transformer_config
    from knowcap.lm.parallel import start

    start()
    if device.type == "cuda":
        model_parallel_cuda_manual_seed(0)
    else:
        # Dropout keeps random states of GPUs; the tracker meant for inference keeps none.
        initialize_rng_tracker(inference_rng_tracker=True, force_reset=True)
    architecture = architecture_of(case)
    model = GPTModel(
        transformer_config(architecture),
        get_gpt_layer_local_spec(normalization=architecture.normalization),
        vocab_size=case.vocab_size,
        max_sequence_length=case.seq_length,
        share_embeddings_and_output_weights=True,
        position_embedding_type="rope",
        rotary_percent=architecture.rotary_percent,
        rotary_base=architecture.rotary_base,
    ).to(device)
    positions = torch.arange(case.seq_length, device=device).expand(case.num_windows, -1)
    shape = (case.seq_length, case.seq_length)
    mask = torch.ones(shape, dtype=torch.bool, device=device).triu(1)[None, None]
    call = _compiled(model, implementation)

    def loss(inputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        nats: Tensor = call(inputs_BS, positions, mask, labels=targets_BS)
        return nats.mean()

    return _ordinary(model, loss, implementation, device)


def _plain(case: Case, implementation: Implementation, device: torch.device) -> Built:
    """Train the module that is written for speed in plain torch."""
    from knowcap.benchmarks.plain import LinearCrossEntropy, PlainGPT2

    dtype = torch.bfloat16 if implementation.bfloat16 else torch.float32
    model = PlainGPT2(
        vocab_size=case.vocab_size,
        num_layers=case.num_layers,
        num_heads=case.num_attention_heads,
        kv_channels=case.kv_channels,
        rotary_dim=architecture_of(case).rotary_dim,
        seq_length=case.seq_length,
        dtype=dtype,
    )
    model.apply(_initialize)
    model.to(device)
    call = _compiled(model, implementation)

    def loss(inputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        hidden = call(inputs_BS).flatten(0, 1)
        nats: Tensor = LinearCrossEntropy.apply(
            hidden, model.embedding.weight, targets_BS.flatten(), dtype
        )
        return nats

    return _ordinary(model, loss, implementation, device)


def _knowcap(case: Case, implementation: Implementation, device: torch.device) -> Built:
    """Train as training does, by the engine that it would choose."""
    from knowcap.bios.render import Extent
    from knowcap.lm.job import Job, initial_state
    from knowcap.lm.parallel import start
    from knowcap.size import num_params

    start()
    run = run_of(case, "bfloat16" if implementation.bfloat16 else "float32")
    # Of the corpus training asks for no more than the vocabulary before the first step.
    job = Job(
        run=run,
        code_digest="",
        biographer=cast("Biographer", SimpleNamespace(vocab_size=case.vocab_size)),
        streams=(),
        extents=(Extent(num_windows=10**9, num_tokens=0),) * case.num_replicates,
        scratch=Path(),
        lock=cast("Lock", None),
    )
    engine = initial_state(job, device).engine

    def train(feed: Feed) -> None:
        for iteration, tokens_RBS1 in enumerate(feed):
            feed.note(engine.step(tokens_RBS1, iteration).loss[0])

    return Built(train, num_params(run.architecture, case.vocab_size)["total"])


BUILDERS: dict[str, Callable[[Case, Implementation, torch.device], Built]] = {
    "gpt2": _transformers,
    "llama": _transformers,
    "trainer": _trainer,
    "litgpt": _litgpt,
    "megatron": _megatron,
    "plain": _plain,
    "knowcap": _knowcap,
}
"""By an implementation's model."""
