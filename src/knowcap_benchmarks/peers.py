"""Builders of the compared implementations, one for each model code.

Peers are installed packages, set up as their documentation says, with AdamW of torch. nanoGPT is
not a package and is written here. Each is imported only where it is measured, in a worker process.

Shapes: B windows, S positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from knowcap_benchmarks import huggingface
from knowcap_benchmarks.baseline_loop import (
    TrainableModel,
    compile_if_set,
    init_gpt2_weights,
    with_baseline_loop,
)
from knowcap_benchmarks.cases import Case, case_architecture, case_run
from knowcap_benchmarks.implementations import Implementation
from knowcap_benchmarks.token_feed import TokenFeed


def build(case: Case, implementation: Implementation, device: torch.device) -> TrainableModel:
    """Build an implementation's model and training loop for a case."""
    return BUILDERS[implementation.builder](case, implementation, device)


def _litgpt(case: Case, implementation: Implementation, device: torch.device) -> TrainableModel:
    """Build litgpt's model like GPT-NeoX: rotary, LayerNorm, biases."""
    from litgpt import GPT, Config

    architecture = case_architecture(case)
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
    model.apply(init_gpt2_weights)
    model.lm_head.weight = model.transformer.wte.weight
    model.to(device)
    call = compile_if_set(model, implementation)

    def loss(inputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        logits = call(inputs_BS)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets_BS.flatten())

    return with_baseline_loop(model, loss, implementation, device)


def _megatron(case: Case, implementation: Implementation, device: torch.device) -> TrainableModel:
    """Build Megatron-core's GPTModel with its local spec, unchanged."""
    from knowcap.model.library_imports import without_triton_kernels

    # Imported before megatron_core, which imports Megatron with torch.compile disabled.
    with without_triton_kernels():
        from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
        from megatron.core.models.gpt.gpt_model import GPTModel
        from megatron.core.tensor_parallel.random import (
            initialize_rng_tracker,
            model_parallel_cuda_manual_seed,
        )

    from knowcap.model.megatron_config import transformer_config
    from knowcap.model.megatron_core import init_process_groups

    init_process_groups()
    if device.type == "cuda":
        model_parallel_cuda_manual_seed(0)
    else:
        # The usual RNG tracker reads the state of a GPU; the one for inference does not.
        initialize_rng_tracker(inference_rng_tracker=True, force_reset=True)
    architecture = case_architecture(case)
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
    call = compile_if_set(model, implementation)

    def loss(inputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        nats: Tensor = call(inputs_BS, positions, mask, labels=targets_BS)
        return nats.mean()

    return with_baseline_loop(model, loss, implementation, device)


def _nanogpt(case: Case, implementation: Implementation, device: torch.device) -> TrainableModel:
    """Build the model of nanoGPT."""
    from knowcap_benchmarks.nanogpt import NanoGPT

    model = NanoGPT(
        vocab_size=case.vocab_size,
        num_layers=case.num_layers,
        num_heads=case.num_attention_heads,
        kv_channels=case.kv_channels,
        seq_length=case.seq_length,
    )
    model.apply(init_gpt2_weights)
    model.to(device)
    return with_baseline_loop(model, compile_if_set(model, implementation), implementation, device)


def _plain(case: Case, implementation: Implementation, device: torch.device) -> TrainableModel:
    """Build the GPT2 that is written for speed in plain torch."""
    from knowcap_benchmarks.plain import LinearCrossEntropy, PlainGPT2

    dtype = torch.bfloat16 if implementation.bfloat16 else torch.float32
    model = PlainGPT2(
        vocab_size=case.vocab_size,
        num_layers=case.num_layers,
        num_heads=case.num_attention_heads,
        kv_channels=case.kv_channels,
        rotary_dim=case_architecture(case).rotary_dim,
        seq_length=case.seq_length,
        dtype=dtype,
    )
    model.apply(init_gpt2_weights)
    model.to(device)
    call = compile_if_set(model, implementation)

    def loss(inputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        hidden = call(inputs_BS).flatten(0, 1)
        nats: Tensor = LinearCrossEntropy.apply(
            hidden, model.embedding.weight, targets_BS.flatten(), dtype
        )
        return nats

    return with_baseline_loop(model, loss, implementation, device)


def _knowcap(case: Case, implementation: Implementation, device: torch.device) -> TrainableModel:
    """Build the engine that `knowcap train` chooses for the case."""
    from knowcap.model.num_params import num_params
    from knowcap.training.process_group import SingleProcess

    run = case_run(case, "bfloat16" if implementation.bfloat16 else "float32")
    process_group = SingleProcess()
    process_group.start()
    engine = process_group.build_engine(run, case.vocab_size, 10**9, device)

    def train(feed: TokenFeed) -> None:
        for iteration, tokens_RBS1 in enumerate(feed):
            feed.record_loss(engine.step(tokens_RBS1, iteration).loss[0])

    return TrainableModel(train, num_params(run.architecture, case.vocab_size)["total"])


BUILDERS: dict[str, Callable[[Case, Implementation, torch.device], TrainableModel]] = {
    "gpt2": huggingface.with_loop,
    "llama": huggingface.with_loop,
    "trainer": huggingface.with_trainer,
    "litgpt": _litgpt,
    "megatron": _megatron,
    "nanogpt": _nanogpt,
    "plain": _plain,
    "knowcap": _knowcap,
}
"""Builder functions, by the `builder` of an implementation."""
