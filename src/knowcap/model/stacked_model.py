"""Stacked model: R replicates of a run as one Megatron GPTModel.

Tiny models are bound by the number of operations, not by arithmetic. So R models of one shape train
as one, whose parameters have a leading dimension of replicates: a linear layer is one batched
product, and the losses of replicates add up, which keeps their gradients apart. Hidden states are
[R, T, H], which batched products take without a copy.

Shapes: R replicates, B sequences, S positions of a sequence, T = B x S tokens, H hidden, V
vocabulary, P parameters of a replicate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from knowcap.config import Architecture
from knowcap.model.attention import document_mask
from knowcap.model.cross_entropy import LinearCrossEntropy
from knowcap.model.embedding import StackedEmbedding
from knowcap.model.layer import StackedLayer
from knowcap.model.matmul import fast_matmul
from knowcap.model.megatron_config import transformer_config
from knowcap.model.megatron_core import (
    GPTModel,
    ModuleSpec,
    TransformerBlockSubmodules,
    single_process_groups,
)
from knowcap.model.moe import Load, Routing
from knowcap.model.norm import StackedNorm
from knowcap.model.rotary import rotary_factors


class StackedModel(GPTModel):  # type: ignore[misc]
    """R replicates as one Megatron model, built by :func:`build_model`.

    Attributes
    ----------
    flat
        All parameters, [R, P] in float32; each named parameter is a view of its columns.
    num_decayed
        Number of leading columns with weight decay: matrices, not biases and norms.
    loads
        Expert load of each layer in the last :meth:`loss`; empty without experts.
    reset_attention_mask
        Whether attention stays within a document.
    """

    flat: Tensor
    num_decayed: int
    loads: list[Load]
    reset_attention_mask: bool

    def __init__(
        self,
        architecture: Architecture,
        vocab_size: int,
        num_replicates: int,
        dtype: torch.dtype,
    ) -> None:
        config = transformer_config(architecture)
        # build_model draws the weights. Megatron's initialisation would import torch's compiler,
        # which takes a second.
        config.perform_initialization = False
        layer = ModuleSpec(
            module=StackedLayer,
            params={
                "architecture": architecture,
                "num_replicates": num_replicates,
                "dtype": dtype,
            },
        )
        norm = partial(StackedNorm, num_replicates=num_replicates)
        super().__init__(
            config,
            TransformerBlockSubmodules([layer] * config.num_layers, norm),
            vocab_size=vocab_size,
            max_sequence_length=0,
            share_embeddings_and_output_weights=architecture.tied,
            position_embedding_type="none",  # layers apply the rotary embedding themselves
            pg_collection=single_process_groups(),
        )
        self.embedding.word_embeddings = StackedEmbedding(
            num_replicates, vocab_size, config.hidden_size
        )
        if not architecture.tied:
            self.output_layer = StackedEmbedding(num_replicates, vocab_size, config.hidden_size)
        self.architecture = architecture
        self.num_replicates = num_replicates
        self.dtype = dtype
        self.loads = []
        self.reset_attention_mask = False

    def loss(self, tokens_RBS1: Tensor) -> Tensor:
        """Mean cross-entropy of each replicate, [R] in nats, differentiable.

        Parameters
        ----------
        tokens_RBS1
            Windows of S + 1 tokens: the first S are inputs, the last S are targets. -1 is padding,
            which is not predicted and comes after all tokens of its window.

        Notes
        -----
        With experts, the gradient includes that of the load-balancing loss; the value does not.
        """
        inputs_RBS, labels_RBS = tokens_RBS1[..., :-1], tokens_RBS1[..., 1:]
        factor = self.architecture.moe_expert_capacity_factor
        routing = self._routing(inputs_RBS >= 0, factor)
        inputs_RBS = inputs_RBS.clamp(min=0)
        mask = self._attention_mask(inputs_RBS)
        loss_R: Tensor = self(inputs_RBS, None, mask, labels=labels_RBS, padding_mask=routing)
        if routing is None:
            return loss_R
        self.loads = [Load(*(value.detach() for value in load)) for load in routing.loads]
        aux_loss_R = torch.stack([load.aux_loss for load in routing.loads]).sum(0)
        return loss_R + (aux_loss_R - aux_loss_R.detach())

    def logits(self, tokens_RBS: Tensor) -> Tensor:
        """Logits of the next tokens, [R, B, S, V] in float32.

        Parameters
        ----------
        tokens_RBS
            Tokens of all replicates ([1, B, S]) or of each replicate ([R, B, S]).
        """
        tokens_RBS = tokens_RBS.expand(self.num_replicates, -1, -1)
        factor = self.architecture.moe_eval_capacity_factor
        routing = self._routing(torch.ones_like(tokens_RBS, dtype=torch.bool), factor)
        with fast_matmul(self.flat.device):
            mask = self._attention_mask(tokens_RBS)
            logits_RTV = self(tokens_RBS, None, mask, padding_mask=routing)
        logits_RBSV: Tensor = logits_RTV.unflatten(1, tokens_RBS.shape[1:])
        return logits_RBSV

    def unstack(self, replicate: int) -> dict[str, Tensor]:
        """State dict of one replicate for :func:`knowcap.model.megatron_config.gpt_model`.

        Megatron stores the weight of a linear layer as [out, in].
        """
        state = {}
        for stacked_name, stacked in self.named_parameters():
            value = stacked[replicate].detach().clone()
            for name, single in _split_experts(stacked_name, value):
                if single.shape[0] == 1:
                    state[name] = single.squeeze(0)
                elif name.startswith(("embedding", "output_layer")):
                    state[name] = single
                else:
                    state[name] = single.T.contiguous()
        return state

    def _attention_mask(self, tokens_RBS: Tensor) -> Tensor | None:
        """Mask of the attention, None if all tokens of a sequence are one document."""
        return document_mask(tokens_RBS.flatten(0, 1)) if self.reset_attention_mask else None

    def _routing(self, is_real_RBS: Tensor, capacity_factor: float | None) -> Routing | None:
        """Inputs of the routers, None without experts."""
        if not self.architecture.num_moe_experts:
            return None
        return Routing(is_real_RBS.flatten(1), capacity_factor, [])

    def _preprocess(
        self, input_ids: Tensor, padding_mask: Routing | None = None, **_: Any
    ) -> tuple[Any, ...]:
        """Embed tokens; return Megatron's inputs of the layers, most of which are unused."""
        hidden_RTH = self.embedding.word_embeddings(input_ids.flatten(1))
        seq_length = input_ids.shape[2]
        factors = rotary_factors(self.architecture, seq_length, hidden_RTH.device, hidden_RTH.dtype)
        return hidden_RTH, factors, None, None, None, padding_mask

    def _postprocess(self, hidden_states: Tensor, labels: Tensor | None, **_: Any) -> Tensor:
        """Return the losses [R] if there are labels, the logits [R, T, V] otherwise."""
        output = self.embedding.word_embeddings if self.architecture.tied else self.output_layer
        weight_RVH = output.weight
        if labels is not None:
            loss_R: Tensor = LinearCrossEntropy.apply(
                hidden_states, weight_RVH, labels.flatten(1), self.dtype
            )
            return loss_R
        logits_RTV = torch.bmm(hidden_states.to(self.dtype), weight_RVH.to(self.dtype).mT)
        return logits_RTV.to(hidden_states.dtype)


def build_model(
    architecture: Architecture,
    vocab_size: int,
    seeds: Sequence[int],
    device: torch.device,
    dtype: torch.dtype,
    *,
    reset_attention_mask: bool = False,
) -> StackedModel:
    """Build a model of one replicate per seed, with initial weights.

    Parameters
    ----------
    architecture, vocab_size
        Shape of every replicate.
    seeds
        Seeds of the initial weights. Those of a replicate depend neither on the other replicates
        nor on the device.
    device
        Device of the process, see :func:`knowcap.model.megatron_core.init_process_groups`.
    dtype
        Dtype of matrix products. Parameters are in float32.
    reset_attention_mask
        Whether attention stays within a document.
    """
    with torch.device("meta"):
        model = StackedModel(architecture, vocab_size, len(seeds), dtype)
    model.reset_attention_mask = reset_attention_mask
    _allocate_flat(model, device)
    for replicate, seed in enumerate(seeds):
        _initialize(model, replicate, seed, architecture)
    return model


def _allocate_flat(model: StackedModel, device: torch.device) -> None:
    """Allocate one buffer and make the parameters views of its columns, matrices first."""
    named = sorted(model.named_parameters(), key=lambda item: not _is_matrix(item[1]))
    sizes = [parameter[0].numel() for _, parameter in named]
    model.flat = torch.zeros(model.num_replicates, sum(sizes), device=device)
    model.num_decayed = sum(parameter[0].numel() for _, parameter in named if _is_matrix(parameter))
    for (name, parameter), columns in zip(named, model.flat.split(sizes, 1), strict=True):
        module, _, attribute = name.rpartition(".")
        view = nn.Parameter(columns.view(parameter.shape))
        setattr(model.get_submodule(module), attribute, view)


def _is_matrix(parameter: Tensor) -> bool:
    """Whether it is a weight or embedding; biases and norms are [R, 1, n] or [R, E, 1, n]."""
    return parameter.shape[-2] > 1


def _split_experts(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """One replicate's parameter under Megatron's names, which are one for each expert."""
    prefix, experts, suffix = name.partition(".experts.")
    if not experts:
        return [(name, value)]
    return [
        (f"{prefix}.experts.local_experts.{expert}.{suffix}", weight)
        for expert, weight in enumerate(value)
    ]


@torch.no_grad()
def _initialize(model: StackedModel, replicate: int, seed: int, architecture: Architecture) -> None:
    """Draw a replicate's weights in the order of their names, on the CPU."""
    # ASSUME: GPT-2's initialisation, normal with smaller residual outputs; the paper is silent
    generator = torch.Generator().manual_seed(seed)
    std = architecture.init_method_std
    residual_std = std / math.sqrt(2 * architecture.num_layers)
    for name, parameter in model.named_parameters():
        value = parameter[replicate]
        if _is_matrix(parameter):
            is_residual = name.endswith(("linear_proj.weight", "linear_fc2.weight"))
            drawn = torch.empty(value.shape).normal_(
                0, residual_std if is_residual else std, generator=generator
            )
            value.copy_(drawn)
        else:
            value.fill_(1.0 if name.endswith("layernorm.weight") else 0.0)
