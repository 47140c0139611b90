"""Who is compared, and in which environment each one's process runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from knowcap.training.launch import MALLOC_SETTINGS


class Implementation(NamedTuple):
    """One way to train a model."""

    label: str
    package: str
    """That is installed for it."""
    model: str
    """What builds it, see :data:`knowcap_benchmarks.peers.BUILDERS`."""
    bfloat16: bool = False
    compiled: bool = False
    tuned: bool = False
    """Whether its process gets the settings of glibc's allocator that ours gets. Who uses a peer
    does not know of them."""
    stacks: bool = False
    """Whether replicates train side by side."""

    @property
    def environment(self) -> dict[str, str]:
        """Of its process."""
        return dict(MALLOC_SETTINGS) if self.tuned else {}

    @property
    def package_version(self) -> str | None:
        """What is installed, None if nothing is."""
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
    "megatron": Implementation("Megatron-core, local spec", "megatron-core", "megatron"),
    "megatron-bf16": Implementation(
        "Megatron-core, local spec, bf16", "megatron-core", "megatron", bfloat16=True
    ),
    "plain": Implementation(
        "tuned plain torch, compiled", "torch", "plain", compiled=True, tuned=True
    ),
    "plain-bf16": Implementation(
        "tuned plain torch, bf16, compiled",
        "torch",
        "plain",
        bfloat16=True,
        compiled=True,
        tuned=True,
    ),
    "knowcap": Implementation("**knowcap**", "knowcap", "knowcap", tuned=True, stacks=True),
    "knowcap-bf16": Implementation(
        "**knowcap, bf16**", "knowcap", "knowcap", bfloat16=True, tuned=True, stacks=True
    ),
}
"""By name; those not said to be bf16 are float32, those not said to be compiled eager."""
