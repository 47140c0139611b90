"""Cases of the training comparisons: model size, step size and implementations.

All implementations of a case do equal work: layers, width, heads, vocabulary, window, batch, AdamW
and clipping are the same. Where a peer's architecture differs, its number of parameters is equal
within a few percent.
"""

from __future__ import annotations

from typing import Literal

from knowcap.config import (
    Architecture,
    BioD,
    Corpus,
    Optimization,
    Record,
    Replicates,
    Run,
)

BIOS_VOCAB = 3275
"""Vocabulary size of bioS in the paper."""  # PAPER A: GPT-2's tokens that occur

SCALE_VOCAB = 261
"""Vocabulary size of the default study's scale model."""

BASELINE = "transformers"
"""Default baseline of the ratios: transformers as most users run it."""


class Case(Record):
    """One training comparison."""

    title: str
    num_layers: int
    num_attention_heads: int
    kv_channels: int
    vocab_size: int
    seq_length: int
    num_windows: int
    """Windows of one step of one model."""
    num_replicates: int = 1
    """Replicates, trained side by side where an implementation can; others train one model."""
    device: Literal["cpu", "cuda"] = "cpu"
    num_threads: int | None = None
    """CPU threads; None for the `--threads` of the benchmark."""
    baseline: str = BASELINE
    implementations: tuple[str, ...]

    @property
    def hidden_size(self) -> int:
        """Width of the model."""
        return self.num_attention_heads * self.kv_channels

    @property
    def step_tokens(self) -> int:
        """Tokens of one step of one model."""
        return self.num_windows * self.seq_length


PEERS = (
    *("transformers", "transformers-compiled", "transformers-bf16", "transformers-bf16-compiled"),
    *("transformers-trainer", "llama", "llama-bf16-compiled"),
    *("litgpt", "litgpt-compiled", "litgpt-bf16-compiled", "megatron"),
    *("nanogpt", "nanogpt-bf16-compiled"),
)
"""All peers that run on a CPU."""

BEST_PEERS = (
    *("transformers", "transformers-compiled", "transformers-bf16-compiled"),
    *("litgpt-compiled", "litgpt-bf16-compiled", "nanogpt-bf16-compiled", "megatron"),
)
"""Transformers as most users run it, and each peer at its best."""

OURS = ("plain", "plain-bf16", "knowcap", "knowcap-bf16")
"""Implementations of this repository."""


def _cpu_case(
    size: tuple[int, int], num_windows: int, seq_length: int, peers: tuple[str, ...] = BEST_PEERS
) -> Case:
    """Make a case of a model size that is trained on CPUs."""
    num_layers, num_heads = size
    return Case(
        title=f"{num_layers} layers, width {64 * num_heads}, {num_windows} x {seq_length} tokens",
        num_layers=num_layers,
        num_attention_heads=num_heads,
        kv_channels=64,
        vocab_size=BIOS_VOCAB,
        seq_length=seq_length,
        num_windows=num_windows,
        implementations=peers + OURS,
    )


def speed_case(num_layers: int, width: int, num_windows: int, seq_length: int) -> Case:
    """Make a case of a model size without peers."""
    return _cpu_case((num_layers, width // 64), num_windows, seq_length, ())


def _scale_model_case(num_heads: int) -> Case:
    """Make a case of eight replicates with a few thousand parameters each."""
    return Case(
        title=f"scale model: 2 layers, width {8 * num_heads}, 8 x 16 tokens, 8 replicates",
        num_layers=2,
        num_attention_heads=num_heads,
        kv_channels=8,
        vocab_size=SCALE_VOCAB,
        seq_length=16,
        num_windows=8,
        num_replicates=8,
        num_threads=1,
        baseline="megatron",
        implementations=(
            *("megatron", "transformers", "transformers-compiled", "litgpt"),
            *("plain", "knowcap"),
        ),
    )


def _gpu_case(num_layers: int, num_heads: int, num_windows: int) -> Case:
    """Make a case of a model size and batch size of the paper, on a GPU."""
    # PAPER 4.2 and table of parameters 2: 12 to 192 windows of 512 tokens
    return Case(
        title=f"GPT2-{num_layers}-{num_heads}, {num_windows} x 512 tokens",
        num_layers=num_layers,
        num_attention_heads=num_heads,
        kv_channels=64,
        vocab_size=BIOS_VOCAB,
        seq_length=512,
        num_windows=num_windows,
        device="cuda",
        # Megatron's linear layers support mixed precision on GPUs only.
        implementations=(*PEERS, "megatron-bf16", *OURS),
    )


CASES = {
    "training-2-64": _cpu_case((2, 1), 16, 512, PEERS),
    "training-4-256": _cpu_case((4, 4), 16, 512),
    "training-short": _cpu_case((2, 1), 32, 128),
    "replicates-16": _scale_model_case(2),
    "replicates-32": _scale_model_case(4),
    "gpu-2-2": _gpu_case(2, 2, 12),
    "gpu-4-4": _gpu_case(4, 4, 24),
    "gpu-8-8": _gpu_case(8, 8, 48),
    "gpu-12-12": _gpu_case(12, 12, 96),
    "gpu-20-16": _gpu_case(20, 16, 48),
}
"""Cases by name, which is also the name of their result file."""


def case_run(case: Case, dtype: Literal["float32", "bfloat16"]) -> Run:
    """Run record of a case, for the engines of knowcap.

    Its corpus is never made, as benchmarks train on random tokens.
    """
    knowledge = BioD(
        kind="bioD",
        num_people=1,
        num_attributes=1,
        num_chunks=1,
        diversity=2,
        chunk_length=1,
        alphabet_size=2,
        layout="compact",
        seed=0,
    )
    return Run(
        corpus=Corpus(knowledge=knowledge, tokenizer="word"),
        architecture=case_architecture(case),
        optimization=Optimization(
            exposures=1,
            seq_length=case.seq_length,
            global_batch_size=case.num_windows,
            lr_warmup_iters=0,
            min_lr_fraction=1.0,
            weight_decay=WEIGHT_DECAY,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            adam_eps=EPS,
            clip_grad=CLIP_GRAD,
            dtype=dtype,
        ),
        replicates=Replicates(seeds=tuple(range(case.num_replicates)), lr=(LEARNING_RATE,)),
    )


LEARNING_RATE, WEIGHT_DECAY, BETAS, EPS, CLIP_GRAD = 1e-3, 0.01, (0.9, 0.98), 1e-6, 1.0
"""Settings of AdamW and clipping, the same for all implementations."""


def case_architecture(case: Case) -> Architecture:
    """Architecture record of a case's model."""
    return Architecture(
        family="GPT2",
        num_layers=case.num_layers,
        num_attention_heads=case.num_attention_heads,
        kv_channels=case.kv_channels,
        rotary_percent=1.0 if case.kv_channels < 16 else 0.25,
        rotary_base=10000,
        init_method_std=0.02,
    )
