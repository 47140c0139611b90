"""Table of the compared implementations, and the environment of their processes."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from knowcap.training.launch import MALLOC_SETTINGS


class Implementation(NamedTuple):
    """One way to train a model."""

    label: str
    package: str
    """Package that must be installed."""
    builder: str
    """A name in :data:`knowcap_benchmarks.peers.BUILDERS`."""
    bfloat16: bool = False
    compiled: bool = False
    tuned_allocator: bool = False
    """Whether its process has the allocator settings of `knowcap train`. Peers run without them,
    as their documentation does not name them, but for nanoGPT."""
    fused_adamw: bool = False
    trains_replicates: bool = False
    """Whether one step trains all replicates of a case; otherwise it trains one model."""

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of its process."""
        return dict(MALLOC_SETTINGS) if self.tuned_allocator else {}

    @property
    def package_version(self) -> str | None:
        """Installed version of its package, None if it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


IMPLEMENTATIONS = {
    "transformers": Implementation("transformers GPT2", "transformers", "gpt2"),
    "transformers-compiled": Implementation(
        "transformers GPT2, compiled", "transformers", "gpt2", compiled=True
    ),
    "transformers-bf16": Implementation(
        "transformers GPT2, bf16", "transformers", "gpt2", bfloat16=True
    ),
    "transformers-bf16-compiled": Implementation(
        "transformers GPT2, bf16, compiled", "transformers", "gpt2", bfloat16=True, compiled=True
    ),
    "transformers-trainer": Implementation(
        "transformers GPT2, its Trainer", "accelerate", "trainer"
    ),
    "llama": Implementation("transformers Llama", "transformers", "llama"),
    "llama-bf16-compiled": Implementation(
        "transformers Llama, bf16, compiled", "transformers", "llama", bfloat16=True, compiled=True
    ),
    "litgpt": Implementation("litgpt", "litgpt", "litgpt"),
    "litgpt-compiled": Implementation("litgpt, compiled", "litgpt", "litgpt", compiled=True),
    "litgpt-bf16-compiled": Implementation(
        "litgpt, bf16, compiled", "litgpt", "litgpt", bfloat16=True, compiled=True
    ),
    "nanogpt": Implementation("nanoGPT", "torch", "nanogpt", fused_adamw=True),
    "nanogpt-bf16-compiled": Implementation(
        "nanoGPT, bf16, compiled",
        "torch",
        "nanogpt",
        bfloat16=True,
        compiled=True,
        tuned_allocator=True,
        fused_adamw=True,
    ),
    "megatron": Implementation("Megatron-core, local spec", "megatron-core", "megatron"),
    "megatron-bf16": Implementation(
        "Megatron-core, local spec, bf16", "megatron-core", "megatron", bfloat16=True
    ),
    "plain": Implementation(
        "tuned plain torch, compiled",
        "torch",
        "plain",
        compiled=True,
        tuned_allocator=True,
        fused_adamw=True,
    ),
    "plain-bf16": Implementation(
        "tuned plain torch, bf16, compiled",
        "torch",
        "plain",
        bfloat16=True,
        compiled=True,
        tuned_allocator=True,
        fused_adamw=True,
    ),
    "knowcap": Implementation(
        "**knowcap**", "knowcap", "knowcap", tuned_allocator=True, trains_replicates=True
    ),
    "knowcap-bf16": Implementation(
        "**knowcap, bf16**",
        "knowcap",
        "knowcap",
        bfloat16=True,
        tuned_allocator=True,
        trains_replicates=True,
    ),
}
"""By name. Without `bf16` in the label they run in float32, without `compiled` eagerly."""
