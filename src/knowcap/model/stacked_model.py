"""The model that trains: a Megatron GPTModel whose layers hold R replicates.

Replicate r starts from weights that depend on its seed alone, and can be taken out as an ordinary
GPTModel's state dict; how many others train beside it changes neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from knowcap.config import Architecture
from knowcap.model.embedding import OutputLoss
from knowcap.model.layer import StackedEmbedding, StackedLayer, StackedNorm
from knowcap.model.matmul import product
from knowcap.model.megatron_config import transformer_config
from knowcap.model.megatron_core import GPTModel, ModuleSpec, TransformerBlockSubmodules, own_groups
from knowcap.model.moe import AuxLoss, Load, Routing
from knowcap.model.rotary import rotation


class StackedModel(GPTModel):  # type: ignore[misc]
    """R replicates as one Megatron model. :func:`build_model` makes one.

    Attributes
    ----------
    flat
        All parameters, [R, P] in float32: each named parameter is a view of its columns.
    num_decayed
        Leading columns that weight decay acts on: matrices, not biases and norms.
    loads
        How the last :meth:`loss` spread tokens over experts, by layer; empty without experts.
    """

    flat: Tensor
    num_decayed: int
    loads: list[Load]

    def __init__(
        self,
        architecture: Architecture,
        vocab_size: int,
        num_replicates: int,
        dtype: torch.dtype,
    ) -> None:
        config = transformer_config(architecture)
        # Weights are drawn later. Megatron's drawing of weights that have no memory yet would
        # import torch's compiler, which takes a second.
        config.perform_initialization = False
        layer = ModuleSpec(
            module=StackedLayer,
            params={"num_replicates": num_replicates, "dtype": dtype},
        )
        norm = ModuleSpec(module=StackedNorm, params={"num_replicates": num_replicates})
        super().__init__(
            config,
            TransformerBlockSubmodules([layer] * config.num_layers, norm),
            vocab_size=vocab_size,
            max_sequence_length=0,
            share_embeddings_and_output_weights=architecture.tied,
            position_embedding_type="none",  # the rotation is the layers' own
            pg_collection=own_groups(),
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

    def loss(self, tokens_RBS1: Tensor) -> Tensor:
        """Mean cross-entropy of each replicate, [R] in nats, differentiable.

        Parameters
        ----------
        tokens_RBS1
            Windows of S + 1 tokens; the first S are read, the last S predicted. -1 is padding: it
            is not predicted, and nothing before it sees it.

        Notes
        -----
        The gradients of a model with experts are those of this loss and of the one that balances
        their load.
        """
        inputs_RBS, labels_RBS = tokens_RBS1[..., :-1], tokens_RBS1[..., 1:]
        factor = self.architecture.moe_expert_capacity_factor
        routing = self._routing(inputs_RBS >= 0, factor)
        loss_R: Tensor = self(
            inputs_RBS.clamp(min=0), None, None, labels=labels_RBS, padding_mask=routing
        )
        if routing is None:
            return loss_R
        self.loads = [Load(*(value.detach() for value in load)) for load in routing.loads]
        aux_loss_R = torch.stack([load.aux_loss for load in routing.loads]).sum(0)
        with_aux_loss_R: Tensor = AuxLoss.apply(loss_R, aux_loss_R)
        return with_aux_loss_R

    def logits(self, tokens_RBS: Tensor) -> Tensor:
        """Logits of next tokens, [R, B, S, V] in float32.

        Parameters
        ----------
        tokens_RBS
            Tokens that all replicates read ([1, B, S]) or each its own ([R, B, S]).
        """
        tokens_RBS = tokens_RBS.expand(self.num_replicates, -1, -1)
        factor = self.architecture.moe_eval_capacity_factor
        routing = self._routing(torch.ones_like(tokens_RBS, dtype=torch.bool), factor)
        logits_RTV = self(tokens_RBS, None, None, padding_mask=routing)
        logits_RBSV: Tensor = logits_RTV.unflatten(1, tokens_RBS.shape[1:])
        return logits_RBSV

    def unstack(self, replicate: int) -> dict[str, Tensor]:
        """Take one replicate out, as a state dict for a :func:`~.architecture.gpt_model`.

        Megatron keeps a linear layer's weight as [out, in].
        """
        state = {}
        for name, stacked in self.named_parameters():
            for its_name, value in _by_expert(name, stacked[replicate].detach().clone()):
                if value.shape[0] == 1:
                    state[its_name] = value.squeeze(0)
                elif name.startswith(("embedding", "output_layer")):
                    state[its_name] = value
                else:
                    state[its_name] = value.T.contiguous()
        return state

    def _routing(self, is_real_RBS: Tensor, capacity_factor: float | None) -> Routing | None:
        """What routers have to know, if there are any."""
        if not self.architecture.num_moe_experts:
            return None
        return Routing(is_real_RBS.flatten(1), capacity_factor, [])

    def _preprocess(
        self, input_ids: Tensor, padding_mask: Routing | None = None, **_: Any
    ) -> tuple[Any, ...]:
        """Embed tokens, and tell layers how positions rotate; the rest is for other models."""
        hidden_RTH = self.embedding.word_embeddings(input_ids.flatten(1))
        how = rotation(self.architecture, input_ids.shape[2], hidden_RTH.device, hidden_RTH.dtype)
        return hidden_RTH, how, None, None, None, padding_mask

    def _postprocess(self, hidden_states: Tensor, labels: Tensor | None, **_: Any) -> Tensor:
        """Losses [R] if there are labels, logits [R, T, V] otherwise."""
        output = self.embedding.word_embeddings if self.architecture.tied else self.output_layer
        weight_RVH = output.weight
        if labels is not None:
            targets_RT = labels.flatten(1)
            loss_R: Tensor = OutputLoss.apply(hidden_states, weight_RVH, targets_RT, self.dtype)
            return loss_R
        logits_RTV = product(hidden_states.to(self.dtype), weight_RVH.to(self.dtype).mT)
        return logits_RTV.to(hidden_states.dtype)


def build_model(
    architecture: Architecture,
    vocab_size: int,
    seeds: Sequence[int],
    device: torch.device,
    dtype: torch.dtype,
) -> StackedModel:
    """Build a model of one replicate per seed, with initial weights.

    Parameters
    ----------
    architecture, vocab_size
        What every replicate is.
    seeds
        A replicate's initial weights depend on its seed alone: not on how many others there are,
        nor on the device.
    device
        What :func:`knowcap.model.megatron_core.start` answered.
    dtype
        Of matrix products. Parameters are float32.
    """
    with torch.device("meta"):
        model = StackedModel(architecture, vocab_size, len(seeds), dtype)
    _lay_out(model, device)
    for replicate, seed in enumerate(seeds):
        _initialize(model, replicate, seed, architecture)
    return model


def _lay_out(model: StackedModel, device: torch.device) -> None:
    """Give the model memory: one buffer, whose columns are the parameters, matrices first."""
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


def _by_expert(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """A replicate's parameter as Megatron names it, one for each expert if there are experts."""
    before, experts, after = name.partition(".experts.")
    if not experts:
        return [(name, value)]
    return [
        (f"{before}.experts.local_experts.{expert}.{after}", its_value)
        for expert, its_value in enumerate(value)
    ]


@torch.no_grad()
def _initialize(model: StackedModel, replicate: int, seed: int, architecture: Architecture) -> None:
    """Draw a replicate's weights in the order of their names, on the CPU."""
    # ASSUME: GPT-2's initialisation, normal with residual outputs scaled down; the paper is silent
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
