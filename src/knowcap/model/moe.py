"""A choice of experts in place of an MLP: a token goes to few of many.

Experts of all replicates are one batched product: each has the same number of places, tokens are
moved there, and back. Of the tokens that choose an expert the first get its places; others pass
the layer unchanged (Shazeer et al. 2017, arXiv 1701.06538; Fedus et al. 2021, arXiv 2101.03961).

Shapes: R replicates, T tokens (sequences one after the other), H hidden, E experts, K choices of a
token, N = K T choices (all first ones, then all second ones), P places (of all experts).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from knowcap.model.activations import activation
from knowcap.model.linear import StackedLinear, StackedMLP
from knowcap.model.matmul import add_product, product
from knowcap.model.megatron_core import TransformerConfig


class Load(NamedTuple):
    """How a layer's tokens are spread over its experts."""

    aux_loss: Tensor
    """Grows with imbalance, [R], differentiable; 1 times its weight if all is even."""
    share: Tensor
    """Of the choices, by expert, [R, E]."""
    dropped: Tensor
    """Share of the choices that found no place, [R]."""


class Routing(NamedTuple):
    """What one pass through a model tells its routers, and what they answer."""

    is_real: Tensor
    """Which tokens are not padding, [R, T]. Padding goes to no expert."""
    capacity_factor: float | None
    """Places of an expert, as a multiple of its even share of the choices; None is for all."""
    loads: list[Load]
    """Of each layer that has been passed."""


class AuxLoss(Function):
    """A loss that reads as it is, with the gradients of another loss added to its own."""

    @staticmethod
    def forward(ctx: Any, loss_R: Tensor, aux_loss_R: Tensor) -> Tensor:
        """Leave the loss as it is."""
        return loss_R.clone()

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor) -> tuple[Tensor, Tensor]:
        """Pass the gradient on to both."""
        return grad_R, grad_R


class _Move(Function):
    """Rows to other places: `take` says which row comes to a place, `back` where a row went to.

    One past the last row is a row of zeros.
    """

    @staticmethod
    def forward(ctx: Any, rows_RNH: Tensor, take_RP: Tensor, back_RN: Tensor) -> Tensor:
        """Move rows."""
        ctx.back = back_RN
        return _taken(rows_RNH, take_RP)

    @staticmethod
    def backward(ctx: Any, grad_RPH: Tensor) -> tuple[Tensor, None, None]:
        """Move their gradients back."""
        return _taken(grad_RPH, ctx.back), None, None


def _taken(rows_RNH: Tensor, take_RP: Tensor) -> Tensor:
    """Rows of each replicate, [R, P, H]."""
    num_replicates, num_rows, width = rows_RNH.shape
    padded = torch.cat((rows_RNH, rows_RNH.new_zeros(num_replicates, 1, width)), 1)
    first_R1 = torch.arange(num_replicates, device=take_RP.device).unsqueeze(1) * (num_rows + 1)
    taken = padded.flatten(0, 1).index_select(0, (take_RP + first_R1).flatten())
    return taken.view(num_replicates, -1, width)


class _Places(NamedTuple):
    """Which choice has which place."""

    place: Tensor
    """Of each choice, [R, N]; P if it has none."""
    choice: Tensor
    """In each place, [R, P]; N if it is empty."""
    is_placed: Tensor
    """Whether a choice has a place, [R, N]."""
    load: Tensor
    """Choices of each expert, placed or not, [R, E]."""


def _assign(
    expert_RN: Tensor, is_real_RN: Tensor, num_experts: int, num_tokens: int, factor: float | None
) -> _Places:
    """Give the places of each expert to the first that chose it."""
    # Not one_hot, which reads the numbers of experts on the host, to check them.
    experts_E = torch.arange(num_experts, device=expert_RN.device)
    chosen_RNE = (expert_RN.unsqueeze(2) == experts_E) & is_real_RN.unsqueeze(2)
    count_RE = chosen_RNE.sum(1)
    rank_RN = chosen_RNE.cumsum(1).gather(2, expert_RN.unsqueeze(2)).squeeze(2) - 1
    num_choices = expert_RN.shape[1]
    if factor is None:
        capacity = max(1, int(count_RE.max()))
        is_placed_RN = is_real_RN
    else:
        # Padding takes no places, nor does it make any.
        limit_R1 = torch.ceil(count_RE.sum(1, keepdim=True).double() / num_experts * factor)
        capacity = min(num_tokens, math.ceil(num_choices / num_experts * factor))
        is_placed_RN = is_real_RN & (rank_RN < limit_R1)
    nowhere = num_experts * capacity
    place_RN = (expert_RN * capacity + rank_RN).masked_fill(~is_placed_RN, nowhere)
    choice_RP = place_RN.new_full((len(place_RN), nowhere + 1), num_choices)
    index_RN = torch.arange(num_choices, device=place_RN.device).expand_as(place_RN)
    choice_RP.scatter_(1, place_RN, index_RN)
    return _Places(place_RN, choice_RP[:, :-1], is_placed_RN, count_RE)


class StackedExperts(nn.Module):
    """Routers and experts of R layers, with the parameter names of Megatron's."""

    def __init__(self, config: TransformerConfig, num_replicates: int) -> None:
        super().__init__()
        self.config = config
        self.num_experts = config.num_moe_experts
        # ASSUME: the router has a bias where other linear layers have one, as Megatron's
        self.router = StackedLinear(config, (num_replicates,), config.hidden_size, self.num_experts)
        self.experts = StackedMLP(config, (num_replicates, self.num_experts))
        self.activation = activation(config.activation_func, gated=config.gated_linear_unit)

    def forward(self, hidden_RTH: Tensor, routing: Routing, dtype: torch.dtype) -> Tensor:
        """Outputs of the experts that tokens choose, weighed by the router, [R, T, H]."""
        topk, num_tokens = self.config.moe_router_topk, hidden_RTH.shape[1]
        probs_RTE = self._probabilities(hidden_RTH)
        weight_RTK, expert_RTK = probs_RTE.topk(topk, -1)
        # ASSUME: as tutel, the only expert's output is multiplied by its probability, several
        # experts' by their probabilities among themselves
        if topk > 1:
            weight_RTK = weight_RTK / weight_RTK.sum(-1, keepdim=True)
        expert_RN = expert_RTK.mT.flatten(1)
        is_real_RN = routing.is_real.repeat(1, topk)
        places = _assign(
            expert_RN, is_real_RN, self.num_experts, num_tokens, routing.capacity_factor
        )
        routing.loads.append(self._load(probs_RTE, routing.is_real, is_real_RN, places))
        inputs_RNH = hidden_RTH.to(dtype).repeat(1, topk, 1)
        inputs_RPH = _Move.apply(inputs_RNH, places.choice, places.place)
        outputs_RPH = self._expert_outputs(inputs_RPH).to(hidden_RTH.dtype)
        outputs_RNH = _Move.apply(outputs_RPH, places.place, places.choice)
        outputs_RKTH = outputs_RNH.unflatten(1, (topk, num_tokens))
        weighed: Tensor = (outputs_RKTH * weight_RTK.mT.unsqueeze(3)).sum(1)
        return weighed

    def _probabilities(self, hidden_RTH: Tensor) -> Tensor:
        """Of each expert, for each token, [R, T, E]."""
        # ASSUME: routers compute in float32 whatever the dtype, as tutel's
        logits_RTE = product(hidden_RTH, self.router.weight)
        if self.router.bias is not None:
            logits_RTE = logits_RTE + self.router.bias
        return logits_RTE.softmax(-1)

    def _expert_outputs(self, inputs_RPH: Tensor) -> Tensor:
        """Pass the inputs in each expert's places through it."""
        num_replicates, _, width = inputs_RPH.shape
        hidden = inputs_RPH.reshape(num_replicates * self.num_experts, -1, width)
        inner = self.activation.forward(_linear(hidden, self.experts.linear_fc1))
        return _linear(inner, self.experts.linear_fc2).view(num_replicates, -1, width)

    def _load(
        self, probs_RTE: Tensor, is_real_RT: Tensor, is_real_RN: Tensor, places: _Places
    ) -> Load:
        """Measure the balance of the experts."""
        num_choices_R = is_real_RN.sum(1).clamp(min=1)
        share_RE = places.load / num_choices_R.unsqueeze(1)
        # ASSUME: the loss of the Switch Transformer, which for one choice is tutel's
        sums_RE = (probs_RTE * is_real_RT.unsqueeze(2)).sum(1)
        probs_RE = sums_RE / is_real_RT.sum(1, keepdim=True).clamp(min=1)
        imbalance_R = self.num_experts * (share_RE * probs_RE).sum(1)
        return Load(
            aux_loss=self.config.moe_aux_loss_coeff * imbalance_R,
            share=share_RE,
            dropped=(is_real_RN & ~places.is_placed).sum(1) / num_choices_R,
        )


def _linear(inputs: Tensor, layer: StackedLinear) -> Tensor:
    """Pass the inputs of each replicate's experts through a layer of theirs."""
    weight = layer.weight.flatten(0, 1).to(inputs.dtype)
    if layer.bias is None:
        return product(inputs, weight)
    return add_product(layer.bias.flatten(0, 1), inputs, weight).to(inputs.dtype)


def load_metrics(loads: list[Load]) -> dict[str, Any]:
    """How balanced experts are, by replicate and layer: nothing for a model without experts."""
    if not loads:
        return {}
    share_RLE = torch.stack([load.share for load in loads], 1)
    return rounded_loads(share_RLE, torch.stack([load.dropped for load in loads], 1))


def rounded_loads(share_RLE: Tensor, dropped_RL: Tensor) -> dict[str, Any]:
    """Write down shares of experts, and of choices without a place, to four decimals."""
    return {
        "expert_share": share_RLE.double().round(decimals=4).tolist(),
        "dropped_share": dropped_RL.double().round(decimals=4).tolist(),
    }
